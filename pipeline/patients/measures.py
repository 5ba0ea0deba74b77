"""Measures of a patient, made of the figures of all of the patient's slides by stated rules."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Figures = Mapping[str, float]
"""Figures of one slide by name, without those that the slide does not have."""

Rule = Literal["sum", "ratio", "largest", "mean", "range"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of a patient.

    Attributes:
        name: name of its column.
        title: name for a reader.
        unit: unit, ``0..1`` for a share.
        rule: ``sum`` of the first figure over the slides; ``ratio`` of sums, the first figure / all
            figures; ``largest`` of the slides; ``mean`` of the first figure, weighted with the
            second; ``range``, the largest ratio of a slide minus the smallest.
        figures: figures of a slide that it is made of.
        description: definition for a reader.
    """

    name: str
    title: str
    unit: str
    rule: Rule
    figures: tuple[str, ...]
    description: str


MEASURES: Final = (
    Measure(
        "tumor_area_mm2",
        "Tumor area",
        "mm²",
        "sum",
        ("tumor_mm2",),
        "sum of the tumor areas of all slides; it grows with the tissue that was scanned",
    ),
    Measure(
        "tumor_fraction_of_tissue",
        "Tumor fraction",
        "0..1",
        "ratio",
        ("tumor_mm2", "other_tissue_mm2"),
        "tumor area of all slides / tissue area of all slides",
    ),
    Measure(
        "tumor_foci",
        "Tumor foci",
        "count",
        "sum",
        ("foci",),
        "sum of the tumor foci of all slides; it grows with the tissue that was scanned",
    ),
    Measure(
        "largest_focus_mm2",
        "Largest focus",
        "mm²",
        "largest",
        ("largest_focus_mm2",),
        "area of the largest tumor focus of all slides",
    ),
    Measure(
        "tumor_stroma_ratio",
        "Tumor-stroma ratio",
        "0..1",
        "ratio",
        ("bed_stroma_mm2", "bed_tumor_mm2"),
        "stroma / (tumor + stroma) in the tumor beds of all slides",
    ),
    Measure(
        "worst_field_tumor_stroma_ratio",
        "Tumor-stroma ratio, worst field",
        "0..1",
        "largest",
        ("worst_field_tumor_stroma_ratio",),
        "largest stroma / (tumor + stroma) of a 2 mm field of all slides",
    ),
    Measure(
        "stromal_inflammation_fraction",
        "Stromal inflammation",
        "0..1",
        "ratio",
        ("border_inflammatory_mm2", "border_stroma_mm2"),
        "inflammatory cells / (stroma + inflammatory cells) near the tumor borders of all slides, "
        "a proxy of stromal TILs",
    ),
    Measure(
        "necrosis_fraction",
        "Necrosis fraction",
        "0..1",
        "ratio",
        ("necrosis_mm2", "whole_tumor_mm2"),
        "necrosis / (tumor + necrosis) of all slides",
    ),
    Measure(
        "tumor_fraction_range",
        "Spread of the tumor fraction",
        "0..1",
        "range",
        ("tumor_mm2", "other_tissue_mm2"),
        "largest tumor fraction of a slide minus the smallest; needs two slides of the patient",
    ),
    Measure(
        "mean_confidence",
        "Confidence of the model",
        "0..1",
        "mean",
        ("mean_confidence", "tissue_mm2"),
        "mean confidence of the slides, weighted with their tissue areas; a figure of quality, not "
        "of the tumor",
    ),
)
"""All measures. Those of the tumor bed, its border and necrosis are defined in docs/measures.md."""

QUALITY: Final = "mean_confidence"
"""Measure of quality; it is no answer to a question about tumors, and in no family of tests."""

HEADLINE: Final = "tumor_fraction_of_tissue"
"""Measure that does not grow with the tissue that was scanned, and that every model gives."""


def measure_of(name: str) -> Measure:
    """Return a measure by its name."""
    return next(measure for measure in MEASURES if measure.name == name)


def patient_value(measure: Measure, slides: Iterable[Figures]) -> float:
    """Return a measure of a patient; NaN if no slide has the figures, or a ratio has no area.

    Args:
        measure: the measure.
        slides: figures of the patient's slides. Slides without one of the measure's figures do not
            count.
    """
    names = measure.figures
    rows = ([figures.get(name, math.nan) for name in names] for figures in slides)
    found = [row for row in rows if math.isfinite(sum(row))]
    columns: list[tuple[float, ...]] = list(zip(*found, strict=True))
    if not columns:
        return math.nan
    if measure.rule == "sum":
        return math.fsum(columns[0])
    if measure.rule == "ratio":
        return _share([math.fsum(column) for column in columns])
    if measure.rule == "largest":
        return max(columns[0])
    if measure.rule == "range":
        shares = [s for s in map(_share, found) if math.isfinite(s)]
        return max(shares) - min(shares) if len(shares) > 1 else math.nan
    weight = math.fsum(columns[1])
    return math.fsum(v * w for v, w in found) / weight if weight > 0 else math.nan


def _share(areas: Sequence[float]) -> float:
    """First area / sum of all; NaN if that is 0."""
    whole = math.fsum(areas)
    return areas[0] / whole if whole > 0 else math.nan
