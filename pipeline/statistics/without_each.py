"""Influence of single patients: effect and p-value without each one.

A comparison of thousands of patients would take minutes if it were repeated without each of them.
The ranks without one patient follow from the ranks of all: greater values lose 1, equal ones 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import chdtrc, ndtr, stdtr

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.statistics.correlation import mean_ranks

_EXACT: Final = 9
"""Largest group that may have at most eight values without a patient; Mann-Whitney is exact then,
unless values are tied."""

_MAX_EXACT: Final = 300
"""Most patients for which exact p-values are computed one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class WithoutEach:
    """Effect and p-value without each patient.

    Attributes:
        effect: float64 ``[n]``, Cliff's delta for two groups, epsilon squared for more, or rho.
        p: float64 ``[n]``, two-sided p-value of the test.
    """

    effect: Float64
    p: Float64


def compare_without_each(values: Float64, groups: Sequence[str]) -> WithoutEach:
    """Compare groups without each patient: Mann-Whitney, or Kruskal-Wallis for more than two.

    The p-values are those of `noctile.pipeline.statistics.groups`; above 300 patients always those
    of the normal approximation.

    Args:
        values: float64 ``[n]``, finite.
        groups: group of each patient, ``[n]``, two or more.
    """
    names, codes = np.unique(np.asarray(groups, str), return_inverse=True)
    sizes = np.bincount(codes)
    sums, ties = _rank_sums(values, codes, len(names))
    counts = np.repeat(sizes[None], len(values), axis=0)
    counts[np.arange(len(values)), codes] -= 1
    if len(names) > 2:
        return _kruskal_wallis(sums, counts, ties)
    without = _mann_whitney(sums, counts, ties)
    untied = len(np.unique(values)) > len(values) - 2
    if sizes.min() <= _EXACT and untied and len(values) <= _MAX_EXACT:
        return WithoutEach(without.effect, _each_p(values, codes))
    return without


def _rank_sums(values: Float64, codes: Int64, n_groups: int) -> tuple[Float64, Float64]:
    """Rank sum of each group ``[n, groups]`` and sum of t^3 - t ``[n]``, without each value."""
    n = len(values)
    distinct, place, times = np.unique(values, return_inverse=True, return_counts=True)
    table = np.zeros((len(distinct), n_groups))
    np.add.at(table, (place, codes), 1)
    above = (np.cumsum(table[::-1], axis=0)[::-1] - table)[place]
    equal = table[place]
    own = np.arange(n), codes
    equal[own] -= 1
    rank = (np.cumsum(times) - (times - 1) / 2)[place]
    sums = np.bincount(codes, rank, n_groups)[None] - above - equal / 2
    sums[own] -= rank
    cubes = times**3.0 - times
    t = times[place].astype(np.float64)
    return sums, cubes.sum() - (t**3 - t) + ((t - 1) ** 3 - (t - 1))


def _mann_whitney(sums: Float64, counts: Int64, ties: Float64) -> WithoutEach:
    """Normal approximation with corrections for ties and continuity."""
    a, b = counts.astype(np.float64).T
    n, cells = a + b, a * b
    u = sums[:, 0] - a * (a + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(cells / 12 * ((n + 1) - ties / (n * (n - 1))))
        z = (np.maximum(u, cells - u) - cells / 2 - 0.5) / spread
        p = np.where(spread > 0, np.minimum(1, 2 * ndtr(-z)), 1.0)
        return WithoutEach(2 * u / cells - 1, p)


def _kruskal_wallis(sums: Float64, counts: Int64, ties: Float64) -> WithoutEach:
    """H, corrected for ties, with its approximation by chi squared."""
    n = counts.sum(axis=1).astype(np.float64)
    filled = counts > 0
    means = np.where(filled, sums**2 / np.maximum(counts, 1), 0).sum(axis=1)
    free = 1 - ties / (n**3 - n)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.where(free > 0, (12 / (n * (n + 1)) * means - 3 * (n + 1)) / free, 0)
    p = chdtrc(filled.sum(axis=1) - 1, np.maximum(h, 0))
    return WithoutEach(np.clip(h / (n - 1), 0, 1), p)


def _each_p(values: Float64, codes: Int64) -> Float64:
    """p-value of Mann-Whitney without each patient, one by one."""
    from noctile.pipeline.statistics.groups import mann_whitney  # noqa: PLC0415 (late: scipy.stats)

    kept = ~np.eye(len(values), dtype=bool)
    pairs = ((values[k & (codes == 0)], values[k & (codes == 1)]) for k in kept)
    return np.array([mann_whitney(a, b)[1] if len(a) and len(b) else 1.0 for a, b in pairs])


def correlate_without_each(x: Float64, y: Float64) -> WithoutEach:
    """Spearman's correlation without each patient, with the p-value of the t distribution.

    Args:
        x: float64 ``[n]``, finite, n > 3.
        y: float64 ``[n]``, finite.
    """
    ranks = [mean_ranks(values) for values in (x, y)]
    rho = np.array([_pearson(*(_ranks_without(r, k) for r in ranks)) for k in range(len(x))])
    freedom = len(x) - 3
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(rho) * np.sqrt(freedom / (1 - rho**2))
    p = np.where(np.isfinite(rho), 2 * stdtr(freedom, -np.where(np.isnan(t), 0, t)), 1.0)
    return WithoutEach(rho, p)


def _ranks_without(ranks: Float64, k: int) -> Float64:
    """Ranks of all other values; the one of value k is set to their mean, which has no weight."""
    middle = len(ranks) / 2
    others: Float64 = ranks - middle - (ranks > ranks[k]) - 0.5 * (ranks == ranks[k])
    others[k] = 0
    return others


def _pearson(x: Float64, y: Float64) -> float:
    spread = float((x @ x) * (y @ y))
    return float(x @ y) / spread**0.5 if spread > 0 else float("nan")
