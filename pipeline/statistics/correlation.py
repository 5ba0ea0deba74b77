"""Rank correlation of two measures of the same patients."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtr

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.estimate import Estimate, finite
from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE

MIN_PAIRS: Final = 10
"""Smallest number of patients: with fewer, the approximations of p-value and interval are poor."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation.

    Attributes:
        n: number of patients.
        rho: correlation of the ranks, -1..1; without interval if it is -1 or 1.
        p: two-sided p-value.
    """

    n: int
    rho: Estimate
    p: float


def spearman(x: Float64, y: Float64) -> Correlation | None:
    """Return Spearman's correlation; None below `MIN_PAIRS` patients or if a measure is constant.

    Tied values have their mean rank. The p-value is that of Student's t = rho sqrt((n - 2) / (1 -
    rho^2)) with n - 2 degrees of freedom. The interval is tanh(atanh(rho) -/+ z se) with se =
    sqrt((1 + rho^2 / 2) / (n - 3)).

    Source of the standard error: Bonett and Wright, Sample size requirements for estimating
    Pearson, Kendall and Spearman correlations, Psychometrika 65 (2000), 23-28.

    Args:
        x: float64 ``[n]``, first measure, finite.
        y: float64 ``[n]``, second measure of the same patients, finite.

    Raises:
        ValueError: if a value is missing, or the measures differ in length.
    """
    x = finite(x)
    y, n = finite(y, len(x)), len(x)
    if n < MIN_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    a, b = mean_ranks(x), mean_ranks(y)
    a, b = a - a.mean(), b - b.mean()
    rho = float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))
    if abs(rho) > 1 - 1e-12:
        return Correlation(n, Estimate(math.copysign(1, rho)), 0.0)
    p = 2 * float(stdtr(n - 2, -abs(rho) * math.sqrt((n - 2) / (1 - rho**2))))
    half = NORMAL_QUANTILE * math.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(rho) + sign * half) for sign in (-1, 1))
    return Correlation(n, Estimate(rho, low, high), p)


def mean_ranks(values: Float64) -> Float64:
    """Return the rank of each value, from 1 up; tied values have the mean of their ranks.

    Args:
        values: float64 ``[n]``, finite.
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which], np.float64)
