"""The cohort in one table: a row for every slide that was submitted, whatever became of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pc

from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.models.card import ClassInfo

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
"""Columns taken from a slide's summary as they are. (README, 'The tables')"""

FACTS: dict[str, pa.DataType] = {
    "mpp_source": pa.string(),
    "reader": pa.string(),
    "vendor": pa.string(),
    "model": pa.string(),
    "model_sha256": pa.string(),
}


@dataclass(frozen=True, slots=True)
class SlideRow:
    """What became of one slide.

    Attributes:
        slide_id: unique in the cohort.
        path: of the slide.
        patient_id: from the manifest, or None.
        group: from the manifest, or None.
        status: done, failed or skipped.
        reason: why not done; "" if done.
        summary: what ``summary.json`` holds; empty if not done.
        seconds: time that its steps took (s), or None.
        extra: the manifest's other columns.
    """

    slide_id: str
    path: Path
    patient_id: str | None
    group: str | None
    status: Status
    reason: str
    summary: Mapping[str, Any]
    seconds: float | None
    extra: tuple[tuple[str, str], ...] = ()


def cohort_table(rows: Iterable[SlideRow], classes: tuple[ClassInfo, ...]) -> pa.Table:
    """One row a slide, sorted by ``slide_id``; figures of slides that are not done are null, never
    0.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    columns: dict[str, pa.Array] = {
        "slide_id": pa.array([row.slide_id for row in rows], pa.string()),
        "path": pa.array([str(row.path) for row in rows], pa.string()),
        "patient_id": pa.array([row.patient_id for row in rows], pa.string()),
        "group": pa.array([row.group for row in rows], pa.string()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "reason": pa.array([row.reason for row in rows], pa.string()),
    }
    for name, kind in FIGURES.items():
        columns[name] = pa.array([row.summary.get(name) for row in rows], kind)
    for c in classes:
        areas = [row.summary.get("class_area_mm2", {}).get(c.name) for row in rows]
        tissue = [row.summary.get("tissue_area_mm2") for row in rows]
        shares = [
            round(a / t, 6) if a is not None and t else None
            for a, t in zip(areas, tissue, strict=True)
        ]
        columns[f"class_{c.name}_area_mm2"] = pa.array(areas, pa.float64())
        columns[f"class_{c.name}_fraction_of_tissue"] = pa.array(shares, pa.float64())
    mpps = [row.summary.get("mpp", (None, None)) for row in rows]
    columns["mpp_y"] = pa.array([y for y, _ in mpps], pa.float64())
    columns["mpp_x"] = pa.array([x for _, x in mpps], pa.float64())
    columns["flags"] = pa.array(
        [";".join(row.summary.get("flags", ())) for row in rows], pa.string()
    )
    for name, kind in FACTS.items():
        columns[name] = pa.array([row.summary.get(name) for row in rows], kind)
    columns["seconds"] = pa.array([row.seconds for row in rows], pa.float64())
    columns["versions"] = pa.array([_versions(row.summary) for row in rows], pa.string())
    for name in sorted({name for row in rows for name, _ in row.extra}):
        free = name if name not in columns else f"manifest_{name}"
        columns[free] = pa.array([dict(row.extra).get(name) for row in rows], pa.string())
    return pa.table(columns)


def write_csv(table: pa.Table, path: Path) -> None:
    """The table as CSV: UTF-8, a header, empty cells for null.

    Ids, paths, messages and the manifest's columns come from elsewhere: text that a spreadsheet
    would run as a formula gets an apostrophe in front. Numbers stay as they are, those of the
    manifest too.
    """
    names = [escape_cell(name) for name in table.column_names]
    columns = [
        pa.array([text and escape_cell(text) for text in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    pc.write_csv(pa.table(columns, names), path, pc.WriteOptions(quoting_style="needed"))


def _versions(summary: Mapping[str, Any]) -> str | None:
    return json.dumps(summary["versions"], sort_keys=True) if "versions" in summary else None
