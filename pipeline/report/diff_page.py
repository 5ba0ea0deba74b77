"""Page of a comparison: one HTML file, with the change maps of the slides beside it."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from noctile.pipeline.agreement import Limits, limits_of_agreement, percent_of_mean
from noctile.pipeline.arrays import Float64
from noctile.pipeline.diff import CHANGE_CLASSES
from noctile.pipeline.diff_columns import COMPARED
from noctile.pipeline.report.agreement_plot import plot_bland_altman, plot_dice, plot_scatter
from noctile.pipeline.report.template import figure, load_template

Row = Mapping[str, Any]

_MM2 = "mm²"

_COLUMNS = (
    ("tumor_area_a_mm2", "tumor a, mm²"),
    ("tumor_area_b_mm2", "tumor b, mm²"),
    ("tumor_area_difference_mm2", "difference, mm²"),
    ("tumor_area_relative_difference", "relative"),
    ("tumor_dice", "Dice"),
    ("tumor_agreement", "agreement"),
    ("tumor_only_in_a_mm2", "only a, mm²"),
    ("tumor_only_in_b_mm2", "only b, mm²"),
    ("analysed_only_in_one_mm2", "analysed on one side only, mm²"),
)
"""Name and title of each figure of a slide, in the order of the page's table."""

_RANGES = (
    ("difference", "tumor_area_difference_mm2", "Difference, mm²"),
    ("dice", "tumor_dice", "Dice, 0 to 1"),
)
"""Filters from and to: name, column and title."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Content of the page.

    Attributes:
        rows: row of each slide, the largest change first.
        counts: number of slides by status.
        provenance: models, versions and runs of each side by ``a`` and ``b``, and the settings and
            versions that differ.
        start: time of the comparison.
    """

    rows: Sequence[Row]
    counts: Mapping[str, int]
    provenance: Mapping[str, Any]
    start: datetime


@dataclass(frozen=True, slots=True)
class ClassTotal:
    """Sums of one class over all slides that were compared.

    Attributes:
        name: name of the class.
        slides: number of slides that have the class in both class lists.
        a_mm2: sum of its areas in the first folder (mm2).
        b_mm2: sum of its areas in the second folder (mm2).
        dice: median of its Dice over the slides; None if no slide has it.
    """

    name: str
    slides: int
    a_mm2: float
    b_mm2: float
    dice: float | None


def tumor_limits(rows: Iterable[Row]) -> Limits | None:
    """Bias and limits of agreement of the tumor area (mm2); None for fewer than two slides."""
    a, b = tumor_areas(rows)
    return limits_of_agreement(b - a)


def tumor_areas(rows: Iterable[Row]) -> tuple[Float64, Float64]:
    """Tumor area (mm2) in both folders, two float64 ``[n]``, of the slides that were compared."""
    compared = [row for row in rows if row["status"] == COMPARED]
    a, b = (
        np.array([row[f"tumor_area_{side}_mm2"] for row in compared], np.float64) for side in "ab"
    )
    return a, b


def class_totals(rows: Iterable[Row]) -> list[ClassTotal]:
    """Sums of each class that both folders have."""
    figures: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for name, of_class in (row.get("classes") or {}).items():
            figures.setdefault(name, []).append(of_class)
    return [_total(name, of_class) for name, of_class in figures.items()]


def _total(name: str, figures: Sequence[Mapping[str, Any]]) -> ClassTotal:
    a, b = (sum(one[f"area_{side}_mm2"] for one in figures) for side in "ab")
    dice = [one["dice"] for one in figures if one["dice"] is not None]
    return ClassTotal(name, len(figures), a, b, float(np.median(dice)) if dice else None)


def diff_page(comparison: Comparison) -> str:
    """Make the page of a comparison.

    Returns:
        The page as HTML.
    """
    rows = comparison.rows
    a, b = tumor_areas(rows)
    some = a + b > 0
    percent = percent_of_mean(a, b)
    dice = np.array([r["tumor_dice"] for r in rows if r.get("tumor_dice") is not None], np.float64)
    patients = {r["patient_id"] for r in rows if r["status"] == COMPARED and r["patient_id"]}
    pictures = {
        "bland_altman": plot_bland_altman((a + b) / 2, b - a, _MM2, _MM2),
        "percent": plot_bland_altman((a + b)[some] / 2, percent, "% of the mean", _MM2),
        "scatter": plot_scatter(a, b, _MM2),
        "dice": plot_dice(dice),
    }
    page = load_template("diff.html", figure=figure, percent=_percent, listed=_listed).render(
        comparison=comparison,
        compared=[row for row in rows if row["status"] == COMPARED],
        others=[row for row in rows if row["status"] != COMPARED],
        limits=limits_of_agreement(b - a),
        percent=limits_of_agreement(percent),
        dice=dice,
        median_dice=float(np.median(dice)) if len(dice) else None,
        patients=len(patients),
        totals=class_totals(rows),
        legend=CHANGE_CLASSES,
        columns=_COLUMNS,
        ranges=_RANGES,
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()},
    )
    return str(page)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} %"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values)) or "–"
