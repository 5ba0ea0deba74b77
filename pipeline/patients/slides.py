"""Slides of a cohort: the fate of each, its figures, and the cells of its manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from noctile.pipeline.manifest_types import cell_text
from noctile.pipeline.patients.measures import Figures

Fate = Literal["analysed", "not_done", "rejected", "not_listed"]

Row = Mapping[str, Any]

_REVIEWED_DOUBT: Final = ("look_again", "disagreement")
_SPATIAL: Final = (
    "bed_stroma_mm2",
    "bed_tumor_mm2",
    "worst_field_tumor_stroma_ratio",
    "border_inflammatory_mm2",
    "border_stroma_mm2",
    "necrosis_mm2",
)
"""Spatial measures that measures of a patient are made of, under the names of a slide's table."""


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One slide that was submitted.

    Attributes:
        slide_id: id of the slide.
        patient_id: patient from the manifest; "" if it names none.
        fate: analysed; not_done: it has no result; rejected: by a reviewer; not_listed: a clinical
            table of slides has no row for it.
        reason: code of the reason why it is not analysed; "" if it is.
        message: text that explains the reason.
        flags: quality flags.
        flagged: True if it has a flag and no reviewer accepted this result, or if reviewers want
            another look or disagree.
        regions_left_out: True if its areas are those without regions that reviewers left out.
        model_sha256: sha256 of the model; "" without a result.
        figures: figures that measures of patients are made of.
        cells: cells of the manifest that are not empty, by header.
    """

    slide_id: str
    patient_id: str
    fate: Fate
    reason: str
    message: str
    flags: tuple[str, ...]
    flagged: bool
    regions_left_out: bool
    model_sha256: str
    figures: Figures
    cells: Mapping[str, str]

    @property
    def analysed(self) -> bool:
        """True if the slide counts in the figures of its patient."""
        return self.fate == "analysed"


def cohort_slides(rows: Iterable[Row], headers: Mapping[str, str]) -> list[CohortSlide]:
    """Make the slides of a cohort from the rows of a table of slides.

    Args:
        rows: rows of the table.
        headers: header of each column of the manifest, by the name of the table's column.
    """
    return [_slide(row, headers) for row in rows]


def _slide(row: Row, headers: Mapping[str, str]) -> CohortSlide:
    fate, reason, message = _fate(row)
    review, flags = row.get("review_status"), tuple(map(str, row.get("qc_flags") or ()))
    cells = {header: cell_text(row.get(name)) for name, header in headers.items()}
    accepted = review == "accepted" and not _of_earlier_result(row)
    return CohortSlide(
        str(row["slide_id"]),
        cell_text(row.get("patient_id")).strip(),
        fate,
        reason,
        message,
        flags,
        bool(flags and not accepted) or review in _REVIEWED_DOUBT,
        row.get("reviewed_tissue_area_mm2") is not None,
        cell_text(row.get("model_sha256")),
        _figures(row) if fate == "analysed" else {},
        {header: cell for header, cell in cells.items() if cell},
    )


def _fate(row: Row) -> tuple[Fate, str, str]:
    if row["status"] != "done":
        return "not_done", cell_text(row.get("reason")) or "not_done", cell_text(row.get("message"))
    if row.get("review_status") != "rejected":
        return "analysed", "", ""
    note = ""
    if _of_earlier_result(row):
        note = ", when another model, other settings or other classes had made the result"
    return "rejected", "rejected", f"rejected by {cell_text(row.get('reviewers'))}{note}"


def _of_earlier_result(row: Row) -> bool:
    return row.get("reviewed_result") == "earlier"


def _figures(row: Row) -> Figures:
    """Figures of a slide; areas are those without the regions that reviewers left out."""
    tissue = _first(row, "reviewed_tissue_area_mm2", "tissue_area_mm2")
    tumor = _first(row, "reviewed_tumor_area_mm2", "tumor_area_mm2")
    found = {
        "tissue_mm2": tissue,
        "tumor_mm2": tumor,
        "other_tissue_mm2": None if tissue is None or tumor is None else max(0.0, tissue - tumor),
        "foci": row.get("tumor_foci"),
        "largest_focus_mm2": row.get("largest_focus_mm2"),
        "mean_confidence": row.get("mean_confidence"),
        "whole_tumor_mm2": row.get("tumor_area_mm2"),
    } | {name: row.get(name) for name in _SPATIAL}
    return {name: float(value) for name, value in found.items() if value is not None}


def _first(row: Row, *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
