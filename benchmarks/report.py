"""Report of many slides: time, size and memory.

``python -m benchmarks.report preview.jpg FOLDER [--slides 5000]`` makes a folder of results whose
slides have that preview, writes its report twice, and prints a line for each.
"""

import argparse
import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.flags import FLAG_MEANINGS
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.report import Report


def main() -> None:
    """Make the folder, write the report, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preview", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=int, default=5000)
    given = parser.parse_args()
    results = ResultsFolder(given.folder)
    make_results(results, given.preview, given.slides)
    for name in ("first report", "second report"):
        begun = time.perf_counter()
        if problem := Report(results).write():
            raise SystemExit(problem)
        seconds = time.perf_counter() - begun
        page, pictures = results.index.stat().st_size, _size(results.index_files)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name} of {given.slides} slides: {seconds:.1f} s, page {page / 1e6:.1f} MB, "
            f"pictures {pictures / 1e6:.1f} MB, peak memory {peak:.0f} MiB"
        )


def make_results(results: ResultsFolder, preview: Path, slides: int) -> None:
    """Write a table of made-up slides, one in 50 of them failed, and a preview for each."""
    rng, rows, flags = np.random.default_rng(0), [], list(FLAG_MEANINGS)
    for k in range(slides):
        slide_id, group = f"slide-{k:05}", f"group {k % 7}"
        if k % 50 == 0:
            path = Path(f"{slide_id}.svs")
            rows.append(SlideRow(slide_id, path, "failed", "unreadable", "tile 3 is cut short"))
            continue
        folder = results.slide(slide_id)
        folder.path.mkdir(parents=True)
        shutil.copy(preview, folder.preview)
        tissue, share = float(rng.gamma(4, 40)), float(rng.beta(2, 5))
        summary = {
            "class_area_mm2": {},
            "tissue_area_mm2": tissue,
            "tumor_area_mm2": tissue * share,
            "tumor_fraction_of_tissue": share,
            "tumor_foci": int(rng.integers(0, 60)),
            "mean_confidence": float(rng.beta(12, 3)),
            "seam_disagreement": float(rng.beta(1, 40)),
            "qc_flags": [str(rng.choice(flags))] if k % 9 == 0 else [],
        }
        done = SlideRow(slide_id, Path(f"{slide_id}.svs"), "done", group=group, summary=summary)
        rows.append(done)
    pq.write_table(cohort_table(rows, []), results.cohort_parquet)


def _size(folder: Path) -> int:
    """Size of all files of a folder (B)."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)


if __name__ == "__main__":
    main()
