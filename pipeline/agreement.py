"""Agreement of two measurements of the same slides: bias, limits of agreement, Dice.

Source of the limits: Bland and Altman, Measuring agreement in method comparison studies,
Statistical Methods in Medical Research 8 (1999), 135-160.
"""

import math
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.quantiles import t_interval

LIMIT_SD = 1.96
"""Distance of each limit of agreement from the bias, in standard deviations of the differences."""

MIN_PAIRS = 2
"""Smallest number of pairs that have a standard deviation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bias and limits of agreement of paired measurements, in the unit of the differences.

    Attributes:
        n: number of pairs.
        sd: standard deviation of the differences.
        bias: mean difference.
        lower: lower limit of agreement.
        upper: upper limit of agreement.
    """

    n: int
    sd: float
    bias: Estimate
    lower: Estimate
    upper: Estimate


def limits_of_agreement(differences: Float64) -> Limits | None:
    """Return bias and limits of agreement; None for fewer than `MIN_PAIRS` differences.

    The limits are bias -/+ 1.96 sd. About 95 % of the differences lie between them if the
    differences are normally distributed. The standard error of the bias is sd / sqrt(n), and that
    of a limit is sd x sqrt(1 / n + 1.96^2 / (2 (n - 1))). The intervals take Student's t with
    n - 1 degrees of freedom.

    Args:
        differences: float64 ``[n]``, finite.
    """
    n = len(differences)
    if n < MIN_PAIRS:
        return None
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    bias_error = sd / math.sqrt(n)
    limit_error = sd * math.sqrt(1 / n + LIMIT_SD**2 / (2 * (n - 1)))
    lower, upper = bias - LIMIT_SD * sd, bias + LIMIT_SD * sd
    return Limits(
        n,
        sd,
        t_interval(bias, bias_error, n - 1),
        t_interval(lower, limit_error, n - 1),
        t_interval(upper, limit_error, n - 1),
    )


def dice(both: int, a: int, b: int) -> float | None:
    """Return the Dice coefficient of two regions, 0..1; None if both are empty.

    Args:
        both: number of pixels in both regions.
        a: number of pixels in the first region.
        b: number of pixels in the second region.
    """
    return 2 * both / (a + b) if a + b else None


def relative_difference(a: float, b: float) -> float | None:
    """Return (b - a) / a; None if a is 0."""
    return (b - a) / a if a else None


def percent_of_mean(a: Float64, b: Float64) -> Float64:
    """Return 100 (b - a) / mean of both, for each pair in which one of both is above 0.

    Args:
        a: float64 ``[n]``, 0 or more.
        b: float64 ``[n]``, 0 or more.

    Returns:
        float64 ``[m]``, -200..200.
    """
    mean = (a + b) / 2
    some = mean > 0
    return np.asarray(100 * (b - a)[some] / mean[some], np.float64)
