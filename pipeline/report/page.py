"""The page of an evaluation: one HTML file with everything in it."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from noctile.pipeline.metrics import (
    BLOCK_PX,
    LEVEL,
    METRICS,
    N_BINS,
    RESAMPLES,
    Estimate,
    Measured,
    Measurement,
    coarser,
)
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.report.published import PUBLISHED, STUDY
from noctile.pipeline.truth.scheme import BUILT_IN, ClassScheme

_FEW_UNITS: Final = 20
"""Below so many units a percentile bootstrap is known to give intervals that are too narrow."""

_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1 = Dice", "iou": "IoU"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured on what.

    Attributes:
        card: of the model.
        scheme: of the truth.
        split: which regions these are and how they were chosen, in words.
        notes: what a reader must know of this evaluation.
    """

    card: ModelCard
    scheme: ClassScheme
    split: str
    notes: Sequence[str]


def evaluation_page(
    subject: Subject, measurement: Measurement, pictures: Mapping[str, bytes]
) -> str:
    """The page as HTML; it needs no other file and no network.

    Args:
        subject: what was measured on what.
        measurement: the figures.
        pictures: PNGs ``confusion``, ``reliability`` and ``gallery``.
    """
    figures, tumor = measurement.figures, measurement.tumor
    headlines = {"mean Dice of the classes": figures.mean("f1")}
    return _template().render(
        subject=subject,
        measurement=measurement,
        metrics={metric: _NAMES[metric] for metric in METRICS},
        figures=figures,
        headlines=headlines | ({"tumor Dice": tumor.of_class("f1", 0)} if tumor else {}),
        shares=measurement.confusion.sum(axis=1) / max(1, measurement.confusion.sum()),
        tables=measurement.tables(),
        intervals=interval_words(measurement, subject.card.mpp),
        comparison=_comparison(subject.scheme, measurement),
        published=PUBLISHED,
        study=STUDY,
        n_bins=N_BINS,
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()},
    )


def interval_words(measurement: Measurement, mpp: float) -> str:
    """What the intervals are, in words."""
    unit, confusions = measurement.units
    n, patients = len(confusions), len(measurement.patients)
    method = f"{LEVEL} % intervals: percentile bootstrap, {RESAMPLES} draws"
    few = " With so few they tend to be too narrow." if n < _FEW_UNITS else ""
    if unit == "patient":
        return f"{method} of {n} patients.{few}"
    whose = f"{patients} patient{'s' if patients > 1 else ''}"
    if unit == "none":
        return f"No intervals: there are only {whose} and {n} blocks of {BLOCK_PX} px to draw from."
    return (
        f"{method} of {n} blocks of {BLOCK_PX} px ({BLOCK_PX * mpp:.0f} µm) within the regions of {whose}: they tell "
        f"how the figures vary inside this tissue, and nothing of other patients.{few}"
    )


def _comparison(scheme: ClassScheme, measurement: Measurement) -> dict[str, Estimate] | None:
    """Our Dice of those of the published classes that this scheme can be turned into; None for
    classes of one's own.
    """
    built_in = BUILT_IN.get(scheme.name)
    if built_in is None or built_in.sources != scheme.sources:
        return None
    five, groups = BUILT_IN["bcss5"], coarser(scheme, BUILT_IN["bcss5"])
    if groups is None:
        tumor = measurement.tumor
        return {"tumor": tumor.of_class("f1", 0)} if tumor else {}
    merged: Measured = measurement.merged(groups)
    dice = {info.name: merged.of_class("f1", k) for k, info in enumerate(five.classes)}
    whole = {k for k, value in enumerate(dice.values()) if math.isfinite(value.value)} == set(
        range(len(five.classes))
    )
    return dice | ({"all": merged.mean("f1")} if whole else {})


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "percent": _percent, "count": "{:,}".format}
    return environment.get_template("evaluation.html")


def _share(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"
