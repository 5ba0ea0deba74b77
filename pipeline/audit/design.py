"""Design of a point sample: slides, points by predicted class, and the area of each point.

Design strata are the predicted classes within each group. All points of a design stratum stand for
the same area, on whichever slide they lie. Opening one more slide costs a reader little, so all
slides take part by default, and the points of a stratum are spread over them as widely as possible.

Sources: Olofsson et al., Good practices for estimating area and assessing accuracy of land change,
Remote Sensing of Environment 148 (2014), 42-57 (rare strata get more points than their share of
the area); Bankier, Power allocations, The American Statistician 42 (1988), 174-177; Madow, On the
theory of systematic sampling, Annals of Mathematical Statistics 20 (1949), 333-354.
"""

from typing import Final

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.errors import UsageError

DEFAULT_POINTS: Final = 300
"""Number of points of an audit."""

LEAST_POINTS: Final = 10
"""Smallest number of points of a stratum, if the points suffice; never below `PAIR`."""

PAIR: Final = 2
"""Number of points from which a stratum has a variance."""

POINT_AREA_MM2: Final = 0.001
"""Area of a stratum for each of its points at least (mm2), so that points keep apart."""

LEAST_SIZE: Final = 0.01
"""Size of a slide at least, as a fraction of the mean, so that each slide can be chosen."""

PIXELS, _POINTS, _SLIDES = 1, 2, 3
"""Independent streams of random numbers from one seed: pixels are drawn from the first."""


def choose_slides(
    area_mm2: Float64,
    groups: Int64,
    patients: Int64,
    n_slides: int | None = None,
    seed: int = 0,
) -> tuple[Float64, Bool]:
    """Choose slides with a known probability, in proportion to their area, within each group.

    Systematic sampling along slides in random order, with those of a patient side by side: the
    chosen slides are spread over patients. Slides as large as a whole step are always chosen.

    Args:
        area_mm2: float64 ``[slides]``, analysed area (mm2).
        groups: int64 ``[slides]``, number of the group of each slide, from 0 up.
        patients: int64 ``[slides]``, number of the patient of each slide, from 0 up.
        n_slides: number of slides to choose; all by default. Each group gets its share by area,
            and two slides at least, or all that it has.
        seed: seed of the random choice.

    Returns:
        Probability of each slide, above 0 and at most 1, float64 ``[slides]``, and True for each
        chosen slide, bool ``[slides]``.
    """
    probability = np.ones(len(area_mm2))
    chosen = np.ones(len(area_mm2), bool)
    if n_slides is None or n_slides >= len(area_mm2):
        return probability, chosen
    rng = np.random.default_rng([seed, _SLIDES])
    of_group = np.bincount(groups, weights=area_mm2).astype(np.float64)
    slides_by_group = np.bincount(groups).astype(np.int64)
    wanted = _shares(of_group, n_slides, np.minimum(PAIR, slides_by_group), slides_by_group)
    for group, number in enumerate(wanted):
        rows = np.flatnonzero(groups == group)
        if len(rows) == 0:
            continue
        rank = rng.permutation(patients.max() + 1)[patients[rows]]
        rows = rows[np.lexsort((rng.permutation(len(rows)), rank))]
        probability[rows] = inclusion_probabilities(area_mm2[rows], int(number))
        chosen[rows] = systematic(probability[rows], int(number), rng) > 0
    return probability, chosen


def inclusion_probabilities(sizes: Float64, number: int) -> Float64:
    """Return probabilities in proportion to size that add up to a number, each at most 1.

    Args:
        sizes: float64 ``[units]``, sizes from 0 up; taken as at least `LEAST_SIZE` of their mean.
        number: number of units to choose, at most all.
    """
    sizes = np.maximum(sizes, LEAST_SIZE * sizes.mean()) if sizes.any() else np.ones(len(sizes))
    certain = np.zeros(len(sizes), bool)
    while True:
        left = number - np.count_nonzero(certain)
        rest = ~certain
        probability = np.ones(len(sizes))
        probability[rest] = left * sizes[rest] / sizes[rest].sum()
        if not (probability > 1).any():
            return probability
        certain |= probability >= 1


def systematic(sizes: Float64, number: int, rng: np.random.Generator) -> Int64:
    """Spread a number of points over units in their order, in proportion to size.

    Each unit gets its expected number of points, rounded up or down.

    Args:
        sizes: float64 ``[units]``, sizes from 0 up, in the order of the units.
        number: number of points.
        rng: source of the one random start.

    Returns:
        Number of points of each unit, int64 ``[units]``.
    """
    ends = np.cumsum(sizes) * (number / sizes.sum())
    ends[np.flatnonzero(sizes)[-1] :] = np.inf
    hits = np.searchsorted(ends, rng.random() + np.arange(number), side="right")
    return np.bincount(hits, minlength=len(sizes)).astype(np.int64)


def allocate(
    area_mm2: Float64,
    groups: Int64,
    probability: Float64,
    points: int = DEFAULT_POINTS,
    seed: int = 0,
    drawn: Int64 | None = None,
) -> Int64:
    """Allocate points to the predicted classes of chosen slides.

    A design stratum (class within group) gets points in proportion to the square root of its area,
    and `LEAST_POINTS` at least, or half of an equal share where points are few. Within a stratum,
    points are spread over slides in proportion to area / probability, so that all of them stand
    for the same area. A stratum that is too small for two points gets none.

    If some points are drawn already, the total is divided in the same way, and each stratum gets
    what it lacks. These points are spread over its slides by a systematic sample of their own, so
    that old and new points of a stratum stand for the same area.

    Args:
        area_mm2: float64 ``[chosen slides, strata]``, area of each predicted class (mm2).
        groups: int64 ``[chosen slides]``, number of the group of each slide, from 0 up.
        probability: float64 ``[chosen slides]``, probability with which each slide was chosen.
        points: number of points in total.
        seed: seed of the random starts.
        drawn: int64 ``[chosen slides, strata]``, number of points that are drawn already; None for
            none.

    Returns:
        Number of points to draw, int64 ``[chosen slides, strata]``.

    Raises:
        UsageError: the points do not suffice for two in each stratum.
    """
    rng = np.random.default_rng([seed, _POINTS] if drawn is None else [seed, _POINTS, points])
    there = np.zeros(area_mm2.shape) if drawn is None else drawn.astype(np.float64)
    have = stratum_area_mm2(there, groups).astype(np.int64)
    area = stratum_area_mm2(area_mm2 / probability[:, None], groups)
    wanted = points_by_stratum(area, points, have) - have
    counts = np.zeros(area_mm2.shape, np.int64)
    for group, stratum in np.argwhere(wanted):
        rows = slide_order(area_mm2, groups, int(group), int(stratum))
        sizes = area_mm2[rows, stratum] / probability[rows]
        counts[rows, stratum] = systematic(sizes, int(wanted[group, stratum]), rng)
    return counts


def points_by_stratum(area_mm2: Float64, points: int, drawn: Int64 | None = None) -> Int64:
    """Return the number of points of each design stratum.

    Args:
        area_mm2: float64 ``[groups, strata]``, area of each design stratum (mm2).
        points: number of points in total.
        drawn: int64 ``[groups, strata]``, points that are drawn already, of which none is given
            up; None for none.

    Returns:
        int64 ``[groups, strata]``. The sum is less than asked for only if the strata are too small.

    Raises:
        UsageError: the points do not suffice for two in each stratum.
    """
    most = np.floor(area_mm2.ravel() / POINT_AREA_MM2).astype(np.int64)
    most[most < PAIR] = 0
    used = int(np.count_nonzero(most))
    if points < PAIR * used:
        raise UsageError(
            f"{points} points are too few for {used} predicted classes in groups. "
            f"Ask for {PAIR * used} points or more."
        )
    least = np.minimum(min(LEAST_POINTS, max(PAIR, points // (2 * max(used, 1)))), most)
    if drawn is not None:
        there = drawn.ravel()
        more = np.maximum(there, least)
        least = more if more.sum() <= points else there
    size = np.where(most > 0, np.sqrt(area_mm2.ravel()), 0)
    return _shares(size, points, least, most).reshape(area_mm2.shape)


def stratum_area_mm2(area_mm2: Float64, groups: Int64) -> Float64:
    """Add up the areas of slides, float64 ``[slides, strata]``, to float64 ``[groups, strata]``."""
    total = np.zeros((int(groups.max(initial=-1)) + 1, area_mm2.shape[1]))
    np.add.at(total, groups, area_mm2)
    return total


def slide_order(area_mm2: Float64, groups: Int64, group: int, stratum: int) -> Int64:
    """Return the slides of a design stratum, by the share of its class in their area.

    Neighbours in this order are alike: the fewer pixels of a class a model predicts on a slide, the
    more of them tend to be wrong.

    Args:
        area_mm2: float64 ``[slides, strata]``, area of each predicted class (mm2).
        groups: int64 ``[slides]``, number of the group of each slide.
        group: number of the group.
        stratum: column of the predicted class.

    Returns:
        Rows of slides that hold the class, int64.
    """
    rows = np.flatnonzero((groups == group) & (area_mm2[:, stratum] > 0))
    share = area_mm2[rows, stratum] / area_mm2[rows].sum(axis=1)
    return rows[np.argsort(share, kind="stable")]


def weights_mm2(area_mm2: Float64, groups: Int64, probability: Float64, counts: Int64) -> Float64:
    """Return the area of the cohort that each point stands for (mm2).

    It is the area of the design stratum, estimated from the chosen slides, by its number of points.
    The weights of all points of a stratum add up to this area.

    Args:
        area_mm2: float64 ``[chosen slides, strata]``, area of each predicted class (mm2).
        groups: int64 ``[chosen slides]``, number of the group of each slide, from 0 up.
        probability: float64 ``[chosen slides]``, probability with which each slide was chosen.
        counts: int64 ``[chosen slides, strata]``, number of points that were drawn.

    Returns:
        float64 ``[chosen slides, strata]``; 0 for strata without points.
    """
    area = stratum_area_mm2(area_mm2 / probability[:, None], groups)
    points = stratum_area_mm2(counts.astype(np.float64), groups)
    weight = np.divide(area, points, out=np.zeros_like(area), where=points > 0)
    return weight[groups]


def _shares(sizes: Float64, total: int, least: Int64, most: Int64) -> Int64:
    """Divide a total in proportion to size, within limits, by largest remainders."""
    total = min(total, int(most.sum()))
    sizes = np.maximum(sizes, 1e-12 * sizes.max(initial=1))
    factors = np.sort(np.concatenate([least / sizes, most / sizes]))
    sums = np.clip(factors[:, None] * sizes, least, most).sum(axis=1)
    exact = np.clip(np.interp(total, sums, factors) * sizes, least, most)
    shares: Int64 = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    order = order[shares[order] < most[order]]
    shares[order[: max(0, total - int(shares.sum()))]] += 1
    return shares
