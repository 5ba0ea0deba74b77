"""Cohort of many slides: time and memory.

``python -m benchmarks.cohort FOLDER [--slides 5000]`` makes a table of made-up slides and a
clinical table, and analyses them once by groups with survival, in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.workflows.results.layout import ResultsFolder


def main() -> None:
    """Make the folder, analyse it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=int, default=5000)
    given = parser.parse_args()
    make_cohort(given.folder, given.slides)
    words = ["cohort", "results", "--clinical", "clinical.csv", "--by", "subtype"]
    words += ["--time", "os_months", "--event", "os_event", "--cut", "tumor_stroma_ratio=0.5"]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "noctile", *words], cwd=given.folder, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    page = given.folder / "cohort" / "cohort.html"
    print(
        f"cohort of {given.slides} slides: {time.perf_counter() - begun:.1f} s, "
        f"{processor_s:.1f} s of processor time, "
        f"peak memory {used.ru_maxrss / 1024:.0f} MiB, page {page.stat().st_size / 1e6:.1f} MB"
    )


def make_cohort(folder: Path, slides: int) -> None:
    """Write a table of made-up slides, one in 50 failed, and a clinical table of their patients."""
    random, rows = np.random.default_rng(0), []
    results = ResultsFolder(folder / "results")
    results.slides.mkdir(parents=True)
    patients = max(1, slides * 3 // 5)
    for k in range(slides):
        slide_id, patient = f"slide-{k:05}", f"p{k % patients:05}"
        path = Path(f"{slide_id}.svs")
        if k % 50 == 0:
            message = "tile 3 is cut short"
            rows.append(SlideRow(slide_id, path, "failed", "unreadable", message, "", patient))
            continue
        tissue, share = float(random.gamma(4, 40)), float(random.beta(2, 5))
        summary = {
            "class_area_mm2": {},
            "tissue_area_mm2": tissue,
            "tumor_area_mm2": tissue * share,
            "tumor_fraction_of_tissue": share,
            "tumor_foci": int(random.integers(0, 60)),
            "largest_focus_mm2": float(random.gamma(2, 3)),
            "mean_confidence": float(random.beta(12, 3)),
            "qc_flags": ["blurred"] if k % 9 == 0 else [],
            "measures": _spatial(tissue, share, random),
        }
        rows.append(SlideRow(slide_id, path, "done", patient_id=patient, summary=summary))
    pq.write_table(cohort_table(rows, []), results.cohort_parquet)
    lines = ["patient_id,subtype,os_months,os_event"]
    for k in range(patients):
        months, subtype = random.exponential(40), "abc"[int(random.integers(0, 3))]
        lines.append(f"p{k:05},{subtype},{months:.2f},{int(random.random() < 0.5)}")
    (folder / "clinical.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _spatial(tissue: float, share: float, random: np.random.Generator) -> dict[str, Any]:
    """Made-up spatial measures of a slide, in the columns that its patient's measures need."""
    tumor = tissue * share
    stroma, border, inflamed = random.uniform(0.2, 1.5, 3) * tumor
    return {
        "foci_area_mm2": tumor,
        "bed_tumor_mm2": tumor,
        "bed_stroma_mm2": stroma,
        "border_stroma_mm2": border,
        "border_inflammatory_mm2": inflamed,
        "necrosis_mm2": float(random.beta(1, 9)) * tumor,
        "worst_field_tumor_stroma_ratio": float(random.beta(6, 2)),
    }


if __name__ == "__main__":
    main()
