"""Comparison of two groups of patients on corrected areas.

Intervals of `noctile.pipeline.audit.estimators` apply to the patients of the cohort. A comparison
asks about patients like them, so it also carries the differences between patients: each patient is
one primary unit. Sources: Stehman, International Journal of Remote Sensing 35 (2014), 4923-4939;
Saerndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), sections 4.6 (variance from
the totals of primary units) and 6.3 (difference estimator); Welch, Biometrika 34 (1947), 28-35;
Bell and McCaffrey, Survey Methodology 28 (2002), 169-181 (few primary units).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.pipeline.audit.strata import strata_of
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.quantiles import t_interval, welch

Measure = Literal["area", "share", "patient_share"]
"""Compared figure: mean area of a patient (mm2); summed area by summed analysed area; mean of the
shares of patients."""

LEAST_PATIENTS: Final = 2
"""Smallest number of patients of a group."""


@dataclass(frozen=True, slots=True, eq=False)
class PatientAreas:
    """Corrected areas of a true class for each patient. Each is unbiased and noisy by itself.

    Attributes:
        groups: int64 ``[patients]``, number of the group.
        area_mm2: float64 ``[patients]``, corrected area (mm2); noise can take it below 0.
        analysed_mm2: float64 ``[patients]``, area of all predicted classes (mm2).
    """

    groups: Int64
    area_mm2: Float64
    analysed_mm2: Float64


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """Difference of two groups on corrected areas.

    Attributes:
        measure: compared figure.
        patients: number of patients of the first and of the second group.
        first: figure of the first group.
        second: figure of the second group.
        difference: first - second.
        df: degrees of freedom (Welch).
        p: two-sided p of no difference.
    """

    measure: Measure
    patients: tuple[int, int]
    first: Estimate
    second: Estimate
    difference: Estimate
    df: float
    p: float


def patient_areas(frame: AuditFrame, sample: AuditSample, true_class: int) -> PatientAreas:
    """Return the corrected area of a true class for each patient with an analysed area.

    The area is the predicted area, corrected by the proportions of the patient's group, plus the
    differences from these proportions at the patient's own points.

    Args:
        frame: all slides of the cohort.
        sample: points of the cohort with one answer each.
        true_class: number of the true class.
    """
    classes = frame.area_mm2.shape[1]
    strata = strata_of(frame, sample)
    proportion = strata.proportion[:, true_class].reshape(-1, classes)[frame.groups]
    slide_area = (frame.area_mm2 * proportion).sum(axis=1)
    answered = sample.answers >= 0
    slides = sample.slides[answered]
    cell = frame.groups[slides] * classes + sample.strata[answered]
    weight = sample.weights_mm2[answered] * strata.scale[cell]
    differences = (sample.answers[answered] == true_class) - strata.proportion[cell, true_class]
    slide_area += np.bincount(slides, weight * differences, len(slide_area))
    pairs = np.stack([frame.patients, frame.groups], axis=1)
    units, unit = np.unique(pairs, axis=0, return_inverse=True)
    area = np.bincount(unit.ravel(), slide_area, len(units)).astype(np.float64)
    analysed = np.bincount(unit.ravel(), frame.area_mm2.sum(axis=1), len(units)).astype(np.float64)
    kept = analysed > 0
    return PatientAreas(units[kept, 1], area[kept], analysed[kept])


def group_difference(
    areas: PatientAreas, first: int, second: int, measure: Measure = "patient_share"
) -> GroupDifference | None:
    """Compare two groups by Welch's t on linearised values, one for each patient.

    Args:
        areas: corrected areas of patients.
        first: number of the first group.
        second: number of the second group.
        measure: compared figure.

    Returns:
        None if a group has fewer than `LEAST_PATIENTS` patients, or if no value differs.
    """
    units = [np.flatnonzero(areas.groups == group) for group in (first, second)]
    if min(len(rows) for rows in units) < LEAST_PATIENTS:
        return None
    parts = [_figure(areas.area_mm2[rows], areas.analysed_mm2[rows], measure) for rows in units]
    (a, variance_a, df_a), (b, variance_b, df_b) = parts
    if not variance_a + variance_b > 0:
        return None
    return GroupDifference(
        measure,
        (len(units[0]), len(units[1])),
        t_interval(a, math.sqrt(variance_a), df_a),
        t_interval(b, math.sqrt(variance_b), df_b),
        *welch(a - b, (variance_a, variance_b), (df_a, df_b)),
    )


def _figure(area: Float64, analysed: Float64, measure: Measure) -> tuple[float, float, float]:
    """Return the figure of a group, its variance and its degrees of freedom."""
    n = len(area)
    if measure == "share":
        return _ratio(area, analysed)
    values = area if measure == "area" else area / analysed
    return float(values.mean()), float(values.var(ddof=1)) / n, n - 1


def _ratio(area: Float64, analysed: Float64) -> tuple[float, float, float]:
    """Return a ratio of sums, its variance and its degrees of freedom.

    A patient with more tissue has more leverage. Its residual is enlarged accordingly (HC2), and
    the degrees of freedom are those of the effective number of patients (Kish).
    """
    leverage = analysed / analysed.sum()
    ratio = float(area.sum() / analysed.sum())
    residual = area - ratio * analysed
    variance = float((np.square(residual) / (1 - leverage)).sum() / analysed.sum() ** 2)
    return ratio, variance, max(1.0, float(1 / np.square(leverage).sum()) - 1)
