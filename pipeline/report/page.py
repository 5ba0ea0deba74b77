"""Page of an evaluation: one HTML file that needs no other file and no network."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from noctile.pipeline.metrics.calibration import N_BINS
from noctile.pipeline.metrics.class_metrics import METRICS
from noctile.pipeline.metrics.confusion import find_groups
from noctile.pipeline.metrics.intervals import LEVEL_PERCENT, RESAMPLES
from noctile.pipeline.metrics.measurement import Measurement
from noctile.pipeline.metrics.region_counts import BLOCK_PX
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.report.published import PUBLISHED, STUDY
from noctile.pipeline.report.template import load_template
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.truth.scheme import BUILT_IN, ClassScheme

_FEW_UNITS: Final = 20
"""With fewer units, the intervals of a percentile bootstrap are known to be too narrow."""

_METRIC_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1 = Dice", "iou": "IoU"}


@dataclass(frozen=True, slots=True)
class Subject:
    """Model, classes and regions of one evaluation.

    Attributes:
        card: card of the model.
        scheme: class scheme of the truth.
        split: description of the regions and of how they were chosen.
        notes: warnings for the reader of the report.
    """

    card: ModelCard
    scheme: ClassScheme
    split: str
    notes: Sequence[str]


def evaluation_page(
    subject: Subject, measurement: Measurement, pictures: Mapping[str, bytes]
) -> str:
    """Make the page of an evaluation.

    Args:
        subject: model, classes and regions.
        measurement: counts and metrics.
        pictures: PNGs ``confusion``, ``reliability`` and ``gallery``.

    Returns:
        The page as HTML.
    """
    estimates, tumor = measurement.estimates, measurement.tumor
    headlines = {"mean Dice of the classes": estimates.mean("f1")}
    return load_template(
        "evaluation.html", share=_share, percent=_percent, count="{:,}".format
    ).render(
        subject=subject,
        measurement=measurement,
        metrics={metric: _METRIC_NAMES[metric] for metric in METRICS},
        estimates=estimates,
        headlines=headlines | ({"tumor Dice": tumor.of_class("f1", 0)} if tumor else {}),
        shares=measurement.confusion.sum(axis=1) / max(1, measurement.confusion.sum()),
        tables=measurement.tables(),
        intervals=describe_intervals(measurement, subject.card.mpp),
        comparison=_published_classes(subject.scheme, measurement),
        published=PUBLISHED,
        study=STUDY,
        n_bins=N_BINS,
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()},
    )


def describe_intervals(measurement: Measurement, mpp: float) -> str:
    """Describe the intervals of a measurement in one or two sentences.

    Args:
        measurement: counts and metrics.
        mpp: the model's pixel size (um).
    """
    unit, confusions = measurement.units
    n, patients = len(confusions), len(measurement.patients)
    method = f"{LEVEL_PERCENT} % intervals: percentile bootstrap, {RESAMPLES} draws"
    few = " With so few they tend to be too narrow." if n < _FEW_UNITS else ""
    if unit == "patient":
        return f"{method} of {n} patients.{few}"
    whose = f"{patients} patient{'s' if patients > 1 else ''}"
    if unit == "none":
        return f"No intervals: there are only {whose} and {n} blocks of {BLOCK_PX} px to draw from."
    return (
        f"{method} of {n} blocks of {BLOCK_PX} px ({BLOCK_PX * mpp:.0f} µm) within the regions of "
        f"{whose}: they tell how the figures vary inside this tissue, and nothing of other "
        f"patients.{few}"
    )


def _published_classes(scheme: ClassScheme, measurement: Measurement) -> dict[str, Estimate] | None:
    """Dice of the published classes into which a scheme can be merged; None for other classes."""
    built_in = BUILT_IN.get(scheme.name)
    if built_in is None or built_in.sources != scheme.sources:
        return None
    five, groups = BUILT_IN["bcss5"], find_groups(scheme, BUILT_IN["bcss5"])
    if groups is None:
        tumor = measurement.tumor
        return {"tumor": tumor.of_class("f1", 0)} if tumor else {}
    merged = measurement.merged_estimates(groups)
    dice = {info.name: merged.of_class("f1", k) for k, info in enumerate(five.classes)}
    complete = all(math.isfinite(estimate.value) for estimate in dice.values())
    return dice | ({"all": merged.mean("f1")} if complete else {})


def _share(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"
