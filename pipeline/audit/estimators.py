"""Areas of the true classes of a cohort, from the areas of predicted classes and a point sample.

The stratified estimator of Olofsson et al., Good practices for estimating area and assessing
accuracy of land change, Remote Sensing of Environment 148 (2014), 42-57, and Stehman, Estimating
area and map accuracy for stratified random sampling when the strata are different from the map
classes, International Journal of Remote Sensing 35 (2014), 4923-4939. docs/audit-method.md explains
the intervals.
"""

from dataclasses import dataclass, replace

import numpy as np

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.audit.intervals import jeffreys, mover_share, mover_sum
from noctile.pipeline.audit.sample import (
    UNREADABLE,
    UNSURE,
    AuditFrame,
    AuditSample,
    part_of,
)
from noctile.pipeline.audit.strata import Spread, Strata, spread_of, strata_of
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE, t_quantile


@dataclass(frozen=True, slots=True)
class ClassArea:
    """Corrected area of one class in the frame, beside the area that the model predicts.

    Attributes:
        predicted_mm2: area that the model predicts (mm2).
        area_mm2: area of the true class (mm2).
        share: area of the true class by the analysed area, from 0 to 1.
        patient_mean_mm2: area of the true class for each patient on average (mm2).
        users_accuracy: part of the predicted class that is truly of the class, from 0 to 1.
        producers_accuracy: part of the true class that is predicted as the class, from 0 to 1.
        standard_error_mm2: standard error of the area (mm2).
        design_effect: variance of the area by that of points at random in each stratum.
        slides_part: part of the variance that the choice of slides causes, from 0 to 1.
        df: degrees of freedom of the interval.
        least_mm2: area if no unsure or unreadable point were truly of the class (mm2).
        most_mm2: area if all unsure and unreadable points were truly of the class (mm2).
    """

    predicted_mm2: float
    area_mm2: Estimate
    share: Estimate
    patient_mean_mm2: Estimate
    users_accuracy: Estimate
    producers_accuracy: Estimate
    standard_error_mm2: float
    design_effect: float
    slides_part: float
    df: float
    least_mm2: float
    most_mm2: float


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedAreas:
    """Corrected areas of all classes of a cohort or of one of its groups.

    Attributes:
        slides: number of slides in the frame.
        patients: number of patients in the frame.
        points: number of points answered with a class.
        unsure: number of points answered unsure.
        unreadable: number of points answered unreadable.
        analysed_mm2: area of all predicted classes (mm2).
        unsampled_mm2: area of predicted classes without an answered point, taken as predicted
            (mm2).
        classes: corrected area of each class.
        matrix_mm2: float64 ``[predicted classes, true classes]``, estimated area (mm2).
    """

    slides: int
    patients: int
    points: int
    unsure: int
    unreadable: int
    analysed_mm2: float
    unsampled_mm2: float
    classes: tuple[ClassArea, ...]
    matrix_mm2: Float64


def corrected_areas(
    frame: AuditFrame, sample: AuditSample, group: int | None = None
) -> CorrectedAreas:
    """Estimate the area of each true class in a cohort, or in one of its groups.

    Unsure and unreadable points are left out of their stratum and counted.

    Args:
        frame: all slides of the cohort.
        sample: points of the cohort with one answer each; a part of the points will do, if it was
            answered in random order.
        group: number of the group; None for the whole cohort.

    Raises:
        ValueError: the frame has no slides, or none of the group.
    """
    if group is not None:
        frame, sample = part_of(frame, sample, np.flatnonzero(frame.groups == group))
        frame = replace(frame, groups=np.zeros_like(frame.groups))
    if len(frame.groups) == 0:
        raise ValueError("there are no slides to estimate areas of")
    strata = strata_of(frame, sample)
    matrix = np.zeros((frame.area_mm2.shape[1],) * 2)
    np.add.at(matrix, strata.predicted, strata.area_mm2[:, None] * strata.proportion)
    patients = len(np.unique(frame.patients))
    return CorrectedAreas(
        slides=len(frame.groups),
        patients=patients,
        points=int((sample.answers >= 0).sum()),
        unsure=int((sample.answers == UNSURE).sum()),
        unreadable=int((sample.answers == UNREADABLE).sum()),
        analysed_mm2=float(frame.area_mm2.sum()),
        unsampled_mm2=float(strata.area_mm2[strata.points == 0].sum()),
        classes=tuple(_class_area(frame, strata, k, patients) for k in range(len(matrix))),
        matrix_mm2=matrix,
    )


def _class_area(frame: AuditFrame, strata: Strata, k: int, patients: int) -> ClassArea:
    """Return the corrected area of one class, and the accuracy of its prediction."""
    same = strata.predicted == k
    every = np.ones_like(same)
    area, spread = _area(frame, strata, every, k)
    hit, _ = _area(frame, strata, same, k)
    missed, _ = _area(frame, strata, ~same, k)
    predicted = float(strata.area_mm2[same].sum())
    analysed = float(strata.area_mm2.sum())
    least, most = _bounds(strata, k)
    return ClassArea(
        predicted_mm2=predicted,
        area_mm2=area,
        share=_scaled(area, analysed),
        patient_mean_mm2=_scaled(area, patients),
        users_accuracy=_scaled(hit, predicted),
        producers_accuracy=mover_share(hit, missed),
        standard_error_mm2=float(np.sqrt(spread.variance)),
        design_effect=spread.effect,
        slides_part=spread.slides_part,
        df=spread.df,
        least_mm2=least,
        most_mm2=most,
    )


def _area(frame: AuditFrame, strata: Strata, kept: Bool, k: int) -> tuple[Estimate, Spread]:
    """Return the area of a true class over design strata with its interval, and its spread.

    Strata in which the class is predicted are one part, the others a second one. MOVER joins the
    intervals of the parts. A stratum without points is a part of its own, from nothing to all.
    """
    spread = spread_of(strata, frame.groups, kept, k)
    effect = spread.effect * (t_quantile(spread.df) / NORMAL_QUANTILE) ** 2
    seen, same = kept & (strata.points > 0), strata.predicted == k
    pooled = [_pooled(strata, rows, k, effect) for rows in (seen & same, seen & ~same)]
    unseen = kept & (strata.points == 0)
    area = strata.area_mm2[unseen]
    blind = np.stack([area * strata.proportion[unseen, k], 0 * area, area])
    total = mover_sum(*np.concatenate([np.array(pooled).T, blind], axis=1))
    return replace(total, high=min(total.high, float(strata.area_mm2[kept].sum()))), spread


def _pooled(strata: Strata, rows: Bool, k: int, effect: float) -> tuple[float, float, float]:
    """Return the area of a true class over some strata, and the ends of its Jeffreys interval.

    The number of points is the effective one: that which the areas of the strata leave (Kish), or
    that which has the variance of the estimate (Korn and Graubard) if it is smaller, by the effect.
    """
    area, points = strata.area_mm2[rows], strata.points[rows]
    if not area.any():
        return 0.0, 0.0, 0.0
    p, total = strata.proportion[rows, k], area.sum()
    mean = float(area @ p / total)
    variance = float((np.square(area) * p * (1 - p) / points).sum())
    effective = total**2 / (np.square(area) / points).sum()
    if variance > 0:
        effective = min(effective, total**2 * mean * (1 - mean) / variance)
    low, high = jeffreys(np.array(mean), np.array(effective / effect))
    return total * mean, total * float(low), total * float(high)


def _bounds(strata: Strata, k: int) -> tuple[float, float]:
    """Return the area of a true class if no, and if each, left-out point were of it (mm2)."""
    seen = strata.points + strata.left_out
    known = np.divide(strata.points, seen, out=np.ones_like(seen), where=seen > 0)
    least = strata.area_mm2 * strata.proportion[:, k] * known
    return float(least.sum()), float((least + strata.area_mm2 * (1 - known)).sum())


def _scaled(estimate: Estimate, by: float) -> Estimate:
    """Divide an estimate by a known number; NaN for 0."""
    if by == 0:
        return Estimate(np.nan)
    return Estimate(estimate.value / by, estimate.low / by, estimate.high / by)
