"""Bootstrap intervals of any statistic, drawn from patients or from clusters of values.

Sources: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979),
1-26, for the percentile interval; Hesterberg, What teachers should know about the bootstrap, The
American Statistician 69 (2015), 371-386, section 5.3, for the expanded percentile interval.
"""

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from scipy.special import ndtr

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.statistics.estimate import Estimate, finite
from noctile.pipeline.statistics.quantiles import t_quantile

RESAMPLES: Final = 2000
"""Number of sets that the bootstrap draws."""

MIN_UNITS: Final = 5
"""Smallest number of patients or clusters with an interval. A rule: fewer have too few different
sets (five have 126)."""

_CHUNK_VALUES: Final = 500_000
"""Most values that are drawn at a time, which bounds the memory."""

Statistic = Callable[[Float64], Float64]
"""Function of sets of values, ``[sets, n]``, that returns one figure for each set, ``[sets]``."""


def mean(sets: Float64) -> Float64:
    """Mean of each set, a `Statistic`."""
    return np.asarray(sets.mean(axis=-1), np.float64)


def bootstrap(
    values: Float64,
    statistic: Statistic = mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Int64 | None = None,
) -> Estimate:
    """Return a statistic with its expanded percentile interval.

    A plain percentile interval is too narrow in small samples, by sqrt((n - 1) / n), and because it
    takes normal quantiles instead of Student's. The expanded one takes the percentiles
    Phi(-/+ sqrt(n / (n - 1)) t) of the draws, with t of n - 1 degrees of freedom. Draws in which
    the statistic does not exist (NaN) are left out.

    Args:
        values: float64 ``[n]``, finite.
        statistic: figure of each set of values.
        resamples: number of sets that are drawn.
        seed: seed of the draws.
        clusters: int64 ``[n]``, patient of each value, if a patient has several. Whole patients
            are drawn then.

    Returns:
        The figure, NaN without values; with an interval from `MIN_UNITS` patients on.

    Raises:
        ValueError: if a value is missing, or clusters do not fit the values.
    """
    values = finite(values)
    if not len(values):
        return Estimate(math.nan)
    value = float(statistic(values[None])[0])
    units = len(values) if clusters is None else len(np.unique(clusters))
    if units < MIN_UNITS:
        return Estimate(value)
    random = np.random.default_rng(seed)
    sets = (
        _plain_sets(values, resamples, random)
        if clusters is None
        else _cluster_sets(values, clusters, resamples, random)
    )
    return Estimate(value, *interval_of(np.concatenate([statistic(part) for part in sets]), units))


def interval_of(draws: Float64, units: int) -> tuple[float, float]:
    """Return the ends of the expanded percentile interval of draws; NaN if none is finite.

    Args:
        draws: float64 ``[draws]``, the statistic of each set.
        units: number of patients that were drawn from, at least 2.
    """
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return math.nan, math.nan
    t = t_quantile(units - 1)
    tail = float(ndtr(-math.sqrt(units / (units - 1)) * t))
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def _plain_sets(values: Float64, resamples: int, random: np.random.Generator) -> Iterator[Float64]:
    """Yield sets of as many values, ``[some, n]``, until there are enough."""
    n = len(values)
    some = max(1, _CHUNK_VALUES // n)
    for first in range(0, resamples, some):
        shape = (min(some, resamples - first), n)
        yield values[random.integers(0, n, shape, dtype=np.int32)]


def _cluster_sets(
    values: Float64, clusters: Int64, resamples: int, random: np.random.Generator
) -> Iterator[Float64]:
    """Yield sets of as many whole clusters, ``[1, their values]``, one at a time."""
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values have {len(clusters)} clusters")
    order = np.argsort(clusters, kind="stable")
    _, starts, sizes = np.unique(clusters[order], return_index=True, return_counts=True)
    ordered = values[order]
    for _ in range(resamples):
        drawn = random.integers(0, len(starts), len(starts))
        lengths = sizes[drawn]
        first = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(starts[drawn] - first, lengths)
        yield ordered[rows][None]
