"""Table of a cohort: one row for every slide that was submitted, done or not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pc

from noctile.pipeline.csv_cells import escape_cell

Status = Literal["done", "failed", "skipped"]

FIGURES: dict[str, pa.DataType] = {
    "tissue_area_mm2": pa.float64(),
    "tumor_area_mm2": pa.float64(),
    "tumor_fraction_of_tissue": pa.float64(),
    "tumor_foci": pa.int64(),
    "largest_focus_mm2": pa.float64(),
    "mean_confidence": pa.float64(),
    "unreadable_fraction": pa.float64(),
    "blurred_fraction": pa.float64(),
    "seam_disagreement": pa.float64(),
    "tiles": pa.int64(),
}
"""Columns with figures from a slide's summary, and their types. (docs/results.md)"""

DESCRIPTION: dict[str, pa.DataType] = {
    "mpp_source": pa.string(),
    "reader": pa.string(),
    "vendor": pa.string(),
    "model": pa.string(),
    "model_sha256": pa.string(),
}
"""Columns with text from a slide's summary, and their types. (docs/results.md)"""


@dataclass(frozen=True, slots=True)
class SlideRow:
    """Result of one slide.

    Attributes:
        slide_id: name of the slide, unique in the cohort.
        path: file or folder of the slide.
        status: done, failed or skipped.
        reason: code of the reason why the slide is not done; empty if it is done.
        message: text that explains the reason; empty if the slide is done.
        run: id of the run that made the row; empty if it is not known.
        patient_id: patient from the manifest, or None.
        group: group from the manifest, or None.
        summary: content of ``summary.json``; empty if the slide is not done.
        seconds: time that the slide's steps took (s), or None.
        extra: names and values of the manifest's other columns.
    """

    slide_id: str
    path: Path
    status: Status
    reason: str = ""
    message: str = ""
    run: str = ""
    patient_id: str | None = None
    group: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    extra: tuple[tuple[str, str], ...] = ()


def cohort_table(rows: Iterable[SlideRow], class_names: Sequence[str]) -> pa.Table:
    """Make the table, with one row a slide, sorted by ``slide_id``.

    Figures of slides that are not done are null, never 0.

    Args:
        rows: results of the slides, in any order.
        class_names: names of the classes; each has two columns.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    columns: dict[str, pa.Array] = {
        "slide_id": pa.array([row.slide_id for row in rows], pa.string()),
        "path": pa.array([str(row.path) for row in rows], pa.string()),
        "patient_id": pa.array([row.patient_id for row in rows], pa.string()),
        "group": pa.array([row.group for row in rows], pa.string()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "reason": pa.array([row.reason or None for row in rows], pa.string()),
        "message": pa.array([row.message or None for row in rows], pa.string()),
        "run": pa.array([row.run or None for row in rows], pa.string()),
    }
    columns |= _summary_columns(rows, FIGURES)
    for name in class_names:
        columns |= _class_columns(rows, name)
    mpps = [row.summary.get("mpp", (None, None)) for row in rows]
    columns["mpp_y"] = pa.array([y for y, _ in mpps], pa.float64())
    columns["mpp_x"] = pa.array([x for _, x in mpps], pa.float64())
    flags = [";".join(row.summary.get("flags", ())) for row in rows]
    columns["flags"] = pa.array(flags, pa.string())
    columns |= _summary_columns(rows, DESCRIPTION)
    columns["seconds"] = pa.array([row.seconds for row in rows], pa.float64())
    columns["versions"] = pa.array([_versions(row.summary) for row in rows], pa.string())
    for name in sorted({name for row in rows for name, _ in row.extra}):
        free = name if name not in columns else f"manifest_{name}"
        columns[free] = pa.array([dict(row.extra).get(name) for row in rows], pa.string())
    return pa.table(columns)


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV: UTF-8, with a header, and empty cells for null.

    Ids, paths, messages and the manifest's columns are untrusted input. Text that a spreadsheet
    would run as a formula gets an apostrophe in front. Numbers stay as they are, also those of the
    manifest.

    Raises:
        OSError: if the file system refuses.
    """
    names = [escape_cell(name) for name in table.column_names]
    columns = [
        pa.array([text and escape_cell(text) for text in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    pc.write_csv(pa.table(columns, names), path, pc.WriteOptions(quoting_style="needed"))


def _summary_columns(
    rows: Sequence[SlideRow], types: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    return {
        name: pa.array([row.summary.get(name) for row in rows], kind)
        for name, kind in types.items()
    }


def _class_columns(rows: Sequence[SlideRow], name: str) -> dict[str, pa.Array]:
    """Make the columns of one class: its area (mm2) and its share of the tissue (0..1)."""
    areas = [row.summary.get("class_area_mm2", {}).get(name) for row in rows]
    tissue = [row.summary.get("tissue_area_mm2") for row in rows]
    shares = [
        round(a / t, 6) if a is not None and t else None for a, t in zip(areas, tissue, strict=True)
    ]
    return {
        f"class_{name}_area_mm2": pa.array(areas, pa.float64()),
        f"class_{name}_fraction_of_tissue": pa.array(shares, pa.float64()),
    }


def _versions(summary: Mapping[str, Any]) -> str | None:
    return json.dumps(summary["versions"], sort_keys=True) if "versions" in summary else None
