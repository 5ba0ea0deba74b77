"""Folders of results of a planted cohort: tables as a run writes them, without masks."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table, manifest_headers
from noctile.pipeline.patients.clinical import ClinicalRow, ClinicalTable
from noctile.pipeline.patients.join import Joined, join
from noctile.pipeline.patients.slides import cohort_slides
from noctile.workflows.results.layout import ResultsFolder

CLASSES = ("tumor", "stroma")


def slide_row(
    slide_id: str,
    tumor: float = 2.0,
    tissue: float = 10.0,
    *,
    patient: str | None = None,
    group: str | None = None,
    confidence: float = 0.9,
    foci: int = 3,
    focus: float = 0.5,
    flags: Iterable[str] = (),
    review: str | None = None,
    extra: tuple[tuple[str, str], ...] = (),
    model: str = "m" * 64,
) -> SlideRow:
    """Row of a slide that is done."""
    summary = {
        "class_area_mm2": {"tumor": tumor, "stroma": tissue - tumor},
        "tissue_area_mm2": tissue,
        "tumor_area_mm2": tumor,
        "tumor_fraction_of_tissue": round(tumor / tissue, 6) if tissue else None,
        "tumor_foci": foci,
        "largest_focus_mm2": focus,
        "mean_confidence": confidence,
        "qc_flags": list(flags),
        "model": "standin",
        "model_sha256": model,
    }
    return SlideRow(
        slide_id,
        Path(f"/scans/{slide_id}.svs"),
        "done",
        patient_id=patient,
        group=group,
        summary=summary,
        extra=extra,
        review={"review_status": review, "reviewers": "ann"} if review else {},
    )


def failed_row(slide_id: str, reason: str = "unreadable", patient: str | None = None) -> SlideRow:
    """Row of a slide that failed."""
    message = "tile 3 is cut short"
    return SlideRow(
        slide_id, Path(f"{slide_id}.svs"), "failed", reason, message, patient_id=patient
    )


def write_results(path: Path, rows: Iterable[SlideRow]) -> Path:
    """Write the table of slides of a folder of results."""
    results = ResultsFolder(path)
    results.slides.mkdir(parents=True)
    pq.write_table(cohort_table(rows, CLASSES), results.cohort_parquet)
    return path


def planted_rows(patients: int = 200, seed: int = 0) -> list[SlideRow]:
    """Rows of patients in two groups, with one to three slides; group b has more tumor."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(patients):
        shift = 0.12 * (k % 2)
        own = random.beta(3, 6) + shift
        for slide in range(int(random.integers(1, 4))):
            tissue = float(random.gamma(4, 30))
            share = float(np.clip(own + random.normal(0, 0.05), 0.01, 0.95))
            rows.append(
                slide_row(
                    f"s{k:04}-{slide}",
                    share * tissue,
                    tissue,
                    patient=f"p{k:04}",
                    confidence=float(random.beta(20, 3)),
                    foci=int(random.poisson(12)),
                    focus=float(random.gamma(2, 3)),
                    flags=["blurred"] if random.random() < 0.1 else [],
                )
            )
    return rows


def planted_clinical(patients: int = 200, seed: int = 1) -> list[dict[str, str]]:
    """Rows of a clinical table for `planted_rows`: subtype, age, months and events."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(patients):
        months = random.exponential(60 if k % 2 == 0 else 30)
        censored = random.uniform(0, 80)
        rows.append(
            {
                "patient_id": f"p{k:04}",
                "subtype": "ab"[k % 2],
                "age": f"{random.normal(60, 10):.1f}",
                "os_months": f"{min(months, censored):.2f}",
                "os_event": str(int(months <= censored)),
            }
        )
    return rows


def write_clinical(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write a clinical table as CSV."""
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def joined_cohort(rows: Iterable[SlideRow], clinical: list[dict[str, str]] | None = None) -> Joined:
    """Join rows of slides with rows of patients, without files."""
    table = cohort_table(rows, CLASSES)
    slides = cohort_slides(table.to_pylist(), manifest_headers(table.schema))
    if clinical is None:
        return join(slides, None)
    found = [
        ClinicalRow(
            k, "", row["patient_id"], {n: c for n, c in row.items() if c and n != "patient_id"}
        )
        for k, row in enumerate(clinical, start=2)
    ]
    columns = tuple(name for name in clinical[0] if name != "patient_id")
    return join(
        slides, ClinicalTable(Path("clinical.csv"), False, "patient_id", columns, tuple(found))
    )
