"""Quantiles of 95 % intervals, and the intervals and comparisons that follow from Student's t.

Source: Welch, Biometrika 34 (1947), 28-35, for the comparison of two figures.
"""

import math
from typing import Final

from scipy.special import ndtri, stdtr, stdtrit

from noctile.pipeline.statistics.estimate import LEVEL, Estimate

UPPER: Final = (1 + LEVEL) / 2
"""Probability below the upper end of an interval."""

NORMAL_QUANTILE: Final = float(ndtri(UPPER))
"""Quantile of the normal distribution for `UPPER`: 1.96."""


def t_quantile(df: float) -> float:
    """Return the quantile of Student's t for `UPPER`."""
    return float(stdtrit(df, UPPER))


def t_interval(value: float, error: float, df: float) -> Estimate:
    """Return a figure with its t interval.

    Args:
        value: the figure.
        error: its standard error.
        df: degrees of freedom of the standard error.
    """
    half = t_quantile(df) * error
    return Estimate(value, value - half, value + half)


def welch(
    difference: float, variances: tuple[float, float], dfs: tuple[float, float]
) -> tuple[Estimate, float, float]:
    """Return a difference of two independent figures with its interval, by Welch's t.

    Args:
        difference: the difference.
        variances: variance of each figure, not both 0.
        dfs: degrees of freedom of each variance.

    Returns:
        The difference, its degrees of freedom, and the two-sided p of no difference.
    """
    (a, b), (df_a, df_b) = variances, dfs
    df = (a + b) ** 2 / (a**2 / df_a + b**2 / df_b)
    error = math.sqrt(a + b)
    p = 2 * float(stdtr(df, -abs(difference) / error))
    return t_interval(difference, error, df), df, p
