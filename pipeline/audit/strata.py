"""Proportions of the true classes in each design stratum, and their sampling variance.

A design stratum is a predicted class within a group. Sources: Olofsson et al., Good practices for
estimating area and assessing accuracy of land change, Remote Sensing of Environment 148 (2014),
42-57 (stratified estimator); Wolter, Introduction to Variance Estimation, 2nd edition (2007),
chapter 8 (successive differences of a systematic sample); Saerndal, Swensson and Wretman, Model
Assisted Survey Sampling (1992), section 4.3 (two stages).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.audit.design import stratum_area_mm2
from noctile.pipeline.audit.sample import AuditFrame, AuditSample

LEAST_EFFECT: Final = 0.5
"""Smallest design effect. A smaller one is taken for chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Design strata with the proportions of the true classes at their points.

    A design stratum is numbered group x predicted classes + predicted class. One without answered
    points is taken as predicted, with an unknown error.

    Attributes:
        area_mm2: float64 ``[strata]``, area in the frame (mm2).
        predicted: int64 ``[strata]``, number of the predicted class.
        points: float64 ``[strata]``, number of points with a class as their answer; the effective
            number (Kish) where their weights differ.
        left_out: float64 ``[strata]``, number of points answered unsure or unreadable.
        scale: float64 ``[strata]``, area by the summed weights of the points; 0 without points.
        proportion: float64 ``[strata, classes]``, proportion of each true class.
        simple: float64 ``[strata, classes]``, variance of the area (mm4) if points were drawn at
            random in the stratum.
        within: float64 ``[strata, classes]``, variance of the area (mm4) from the choice of points
            on slides.
        residuals_mm2: float64 ``[slides, strata, classes]``, differences from the proportion summed
            over the points of a slide, as areas (mm2), for slides that were chosen with a
            probability below 1 and have points.
        residual_slides: int64 ``[slides]``, rows of these slides in the frame.
        unchosen: float64 ``[slides]``, 1 - probability of these slides.
    """

    area_mm2: Float64
    predicted: Int64
    points: Float64
    left_out: Float64
    scale: Float64
    proportion: Float64
    simple: Float64
    within: Float64
    residuals_mm2: Float64
    residual_slides: Int64
    unchosen: Float64


@dataclass(frozen=True, slots=True)
class Spread:
    """Sampling variance of the summed area of a true class over some design strata.

    Attributes:
        variance: variance (mm4).
        slides_part: part of the variance that the choice of slides causes, from 0 to 1.
        effect: design effect: the variance by that of points at random in each stratum.
        df: degrees of freedom (Satterthwaite).
    """

    variance: float
    slides_part: float
    effect: float
    df: float


def strata_of(frame: AuditFrame, sample: AuditSample) -> Strata:
    """Return the design strata of a frame with the proportions of the answers."""
    classes = frame.area_mm2.shape[1]
    area = stratum_area_mm2(frame.area_mm2, frame.groups).ravel()
    cell = frame.groups[sample.slides] * classes + sample.strata
    answered = sample.answers >= 0
    left_out = np.bincount(cell[~answered], minlength=len(area)).astype(np.float64)
    slides, cell = sample.slides[answered], cell[answered]
    true = np.eye(classes)[sample.answers[answered]]
    weight = sample.weights_mm2[answered]
    points = _kish(cell, weight, len(area))
    summed = np.bincount(cell, weight, len(area))
    predicted = np.tile(np.arange(classes), len(area) // classes)
    proportion = np.eye(classes)[predicted]
    has = summed > 0
    proportion[has] = _sum(cell, weight[:, None] * true, len(area))[has] / summed[has, None]
    factor = np.square(area) / np.maximum(points * (points - 1), 1) * (points > 1)
    scale = np.divide(area, summed, out=np.zeros_like(area), where=has)
    residual = (weight * scale[cell])[:, None] * (true - proportion[cell])
    rows, summed_residual = _residuals(frame, slides, cell, residual, len(area))
    return Strata(
        area_mm2=area,
        predicted=predicted,
        points=points,
        left_out=left_out,
        scale=scale,
        proportion=proportion,
        simple=(factor * points)[:, None] * proportion * (1 - proportion),
        within=factor[:, None] / 2 * _differences(frame, slides, cell, true),
        residuals_mm2=summed_residual,
        residual_slides=rows,
        unchosen=1 - frame.probability[rows],
    )


def spread_of(strata: Strata, groups_of_slides: Int64, kept: Bool, true_class: int) -> Spread:
    """Return the sampling variance of the area of a true class, summed over design strata.

    The variance has two parts. Within slides: squared differences of neighbouring points, along
    slides ordered by the share of the predicted class. Between slides, if slides were chosen with a
    probability below 1: the variance of the summed differences of slides within each group, times
    1 - probability.

    Args:
        strata: design strata.
        groups_of_slides: int64 ``[frame slides]``, number of the group of each slide.
        kept: bool ``[strata]``, strata to sum over.
        true_class: number of the true class.
    """
    simple = float(strata.simple[kept, true_class].sum())
    within = float(strata.within[kept, true_class].sum())
    totals = strata.residuals_mm2[:, kept, true_class].sum(axis=1)
    groups = groups_of_slides[strata.residual_slides]
    between, slides_df = 0.0, 0
    for group in np.unique(groups):
        rows = groups == group
        if (n := int(rows.sum())) > 1:
            squares = strata.unchosen[rows] * np.square(totals[rows] - totals[rows].mean())
            between += n / (n - 1) * float(squares.sum())
            slides_df += n - 1
    used = strata.points[kept]
    points_df = max(1.0, float(used.sum() - np.count_nonzero(used)))
    variance = between + within
    if simple == 0 or variance == 0:
        return Spread(variance, 0.0, 1.0, float(slides_df or points_df))
    df = variance**2 / (between**2 / max(slides_df, 1) + within**2 / points_df)
    return Spread(variance, between / variance, max(LEAST_EFFECT, variance / simple), df)


def _differences(frame: AuditFrame, slides: Int64, cell: Int64, true: Float64) -> Float64:
    """Sum squared differences of neighbouring points, float64 ``[strata, classes]``.

    Points on one slide are in no order, so each difference is the mean over all orders.
    """
    classes = frame.area_mm2.shape[1]
    cells = classes * (int(frame.groups.max(initial=0)) + 1)
    share = frame.area_mm2[slides, cell % classes] / frame.area_mm2[slides].sum(axis=1)
    order = np.lexsort((slides, share, cell))
    slides, cell, true = slides[order], cell[order], true[order]
    new = np.ones(len(cell), bool)
    new[1:] = (np.diff(cell) != 0) | (np.diff(slides) != 0)
    block = np.cumsum(new) - 1
    slides, cell = slides[new], cell[new]
    number = np.bincount(block, minlength=len(cell))
    p = _sum(block, true, len(cell)) / number[:, None]
    chosen = frame.probability[slides]
    differences = _sum(cell, 2 * (chosen * number)[:, None] * p * (1 - p), cells)
    pair = np.flatnonzero(np.diff(cell) == 0)
    a, b = p[pair], p[pair + 1]
    both = ((chosen[pair] + chosen[pair + 1]) / 2)[:, None] * (a + b - 2 * a * b)
    return differences + _sum(cell[pair], both, cells)


def _residuals(
    frame: AuditFrame, slides: Int64, cell: Int64, residual: Float64, cells: int
) -> tuple[Int64, Float64]:
    """Sum residuals of points over the slides that were chosen with a probability below 1."""
    part = frame.probability[slides] < 1
    rows, row = np.unique(slides[part], return_inverse=True)
    summed = _sum(row * cells + cell[part], residual[part], len(rows) * cells)
    return rows, summed.reshape(len(rows), cells, residual.shape[1])


def _sum(index: Int64, values: Float64, length: int) -> Float64:
    """Sum rows of values by index, float64 ``[length, columns]``."""
    columns = values.shape[1]
    flat = index[:, None] * columns + np.arange(columns)
    summed = np.bincount(flat.ravel(), values.ravel(), length * columns).astype(np.float64)
    return summed.reshape(length, columns)


def _kish(cell: Int64, weight: Float64, cells: int) -> Float64:
    """Return the effective number of points of each stratum: (sum w)^2 / sum w^2."""
    squares = np.bincount(cell, np.square(weight), cells)
    total = np.square(np.bincount(cell, weight, cells))
    return np.divide(total, squares, out=np.zeros(cells), where=squares > 0)
