"""Comparison of one measure between groups of patients, by ranks, with effect sizes.

Sources: Mann and Whitney, Annals of Mathematical Statistics 18 (1947), 50-60; Kruskal and Wallis,
Journal of the American Statistical Association 47 (1952), 583-621.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.effect_sizes import cliffs_delta, epsilon_squared
from noctile.pipeline.statistics.estimate import Estimate, finite
from noctile.pipeline.statistics.multiplicity import holm

MIN_GROUP: Final = 5
"""Smallest group that is compared: the approximation of Kruskal and Wallis holds from there on."""

MANN_WHITNEY: Final = "Mann-Whitney"
KRUSKAL_WALLIS: Final = "Kruskal-Wallis"
CLIFFS_DELTA: Final = "Cliff's delta"
EPSILON_SQUARED: Final = "epsilon squared"


@dataclass(frozen=True, slots=True)
class Effect:
    """Size of a difference between groups, with the p-value of its test.

    Attributes:
        name: `CLIFFS_DELTA` of two groups, or `EPSILON_SQUARED` of all.
        a: first group; empty for all groups.
        b: second group; empty for all groups.
        estimate: effect size. Delta is above 0 if values of ``a`` tend to be larger.
        p: two-sided p-value of the test of these groups.
        p_holm: the same, corrected for the number of pairs.
    """

    name: str
    a: str
    b: str
    estimate: Estimate
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Test of one measure between groups.

    Attributes:
        test: `MANN_WHITNEY` for two groups, `KRUSKAL_WALLIS` for more.
        statistic: U of the first group, or H corrected for ties.
        p: two-sided p-value of the test, not yet corrected for the number of measures.
        sizes: name and number of values of each compared group, sorted by name.
        left_out: name and number of values of each group below `MIN_GROUP`.
        effects: delta of two groups; for more, epsilon squared and then delta of each pair.
    """

    test: str
    statistic: float
    p: float
    sizes: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int], ...]
    effects: tuple[Effect, ...]


def compare(values: Float64, groups: Sequence[str]) -> Comparison | None:
    """Compare a measure between groups.

    Two groups: Mann-Whitney, exact if one of both has at most eight values and none is tied, else
    by the normal approximation with corrections for ties and continuity. More groups:
    Kruskal-Wallis, corrected for ties, and then Mann-Whitney for each pair with Holm's correction
    for the number of pairs.

    Args:
        values: float64 ``[n]``, one value for each patient, finite.
        groups: name of the group of each patient, ``[n]``.

    Returns:
        None if fewer than two groups have `MIN_GROUP` values.

    Raises:
        ValueError: if a value is missing, or the groups do not fit the values.
    """
    values = finite(values, len(groups))
    names = np.asarray(groups, str)
    parts = {str(name): values[names == name] for name in np.unique(names)}
    compared = {name: part for name, part in parts.items() if len(part) >= MIN_GROUP}
    if len(compared) < 2:
        return None
    pairs = _pairs(compared)
    if len(compared) == 2:
        a, b = compared.values()
        test, (statistic, p), effects = MANN_WHITNEY, mann_whitney(a, b), pairs
    else:
        test, (statistic, p) = KRUSKAL_WALLIS, kruskal_wallis(list(compared.values()))
        share = epsilon_squared(statistic, sum(map(len, compared.values())), len(compared))
        effects = (Effect(EPSILON_SQUARED, "", "", share, p, p), *pairs)
    sizes = [(name, len(part)) for name, part in parts.items()]
    kept = tuple(size for size in sizes if size[0] in compared)
    left_out = tuple(size for size in sizes if size[0] not in compared)
    return Comparison(test, statistic, p, kept, left_out, effects)


def _pairs(groups: dict[str, Float64]) -> tuple[Effect, ...]:
    """Return delta and test of each pair of groups."""
    pairs = list(combinations(groups, 2))
    raw = [mann_whitney(groups[a], groups[b])[1] for a, b in pairs]
    return tuple(
        Effect(CLIFFS_DELTA, a, b, cliffs_delta(groups[a], groups[b]), p, float(corrected))
        for (a, b), p, corrected in zip(pairs, raw, holm(raw), strict=True)
    )


def mann_whitney(a: Float64, b: Float64) -> tuple[float, float]:
    """Return U of the first group and the two-sided p-value; p is 1 if all values are equal.

    Args:
        a: float64 ``[n]``, values of the first group, finite.
        b: float64 ``[m]``, values of the second group, finite.
    """
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 (late: scipy.stats takes time)

    if np.ptp(np.concatenate((a, b))) == 0:
        return len(a) * len(b) / 2, 1.0
    found = mannwhitneyu(a, b, alternative="two-sided", method="auto")
    return float(found.statistic), float(found.pvalue)


def kruskal_wallis(groups: Sequence[Float64]) -> tuple[float, float]:
    """Return H, corrected for ties, and its p-value; p is 1 if all values are equal.

    Args:
        groups: values of each group, finite, none empty.
    """
    from scipy.stats import kruskal  # noqa: PLC0415 (late: scipy.stats takes time)

    if np.ptp(np.concatenate(groups)) == 0:
        return 0.0, 1.0
    found = kruskal(*groups)
    return float(found.statistic), float(found.pvalue)
