"""Intervals of proportions, and of sums and ratios of independent estimates.

Sources: Brown, Cai and DasGupta, Interval estimation for a binomial proportion, Statistical
Science 16 (2001), 101-133 (Jeffreys interval); Korn and Graubard, Confidence intervals for
proportions with small expected number of positive counts estimated from survey data, Survey
Methodology 24 (1998), 193-201 (effective number of points); Zou and Donner, Construction of
confidence limits about effect measures, Statistics in Medicine 27 (2008), 1693-1702 (MOVER), and
Donner and Zou, Closed-form confidence intervals for functions of the normal mean and standard
deviation, Statistical Methods in Medical Research 21 (2012), 347-359 (ratio).
"""

from typing import Final

import numpy as np
from scipy.special import betaincinv

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.estimate import LEVEL, Estimate

TAIL: Final = (1 - LEVEL) / 2
"""Probability of each tail outside an interval."""


def jeffreys(proportion: Float64, points: Float64) -> tuple[Float64, Float64]:
    """Return lower and upper ends of the Jeffreys intervals of proportions.

    The lower end of a proportion of 0 is 0, the upper end of a proportion of 1 is 1. Without
    points, the interval is 0 to 1.

    Args:
        proportion: float64, any shape, from 0 to 1.
        points: float64, effective number of points, from 0 up; broadcast against the proportions.
    """
    hits = proportion * points
    misses = points - hits
    low = betaincinv(hits + 0.5, misses + 0.5, TAIL)
    high = betaincinv(hits + 0.5, misses + 0.5, 1 - TAIL)
    return np.where(hits < 1e-9, 0.0, low), np.where(misses < 1e-9, 1.0, high)


def mover_sum(values: Float64, low: Float64, high: Float64) -> Estimate:
    """Return a sum of independent estimates with its interval, by MOVER.

    Each end lies as far from the sum as the root of the summed squares of the parts' distances.

    Args:
        values: float64 ``[parts]``, estimates.
        low: float64 ``[parts]``, lower ends of their intervals.
        high: float64 ``[parts]``, upper ends of their intervals.
    """
    total = float(values.sum())
    below = float(np.sqrt(np.square(values - low).sum()))
    above = float(np.sqrt(np.square(high - values).sum()))
    return Estimate(total, max(0.0, total - below), total + above)


def mover_share(part: Estimate, rest: Estimate) -> Estimate:
    """Return part / (part + rest) of two independent estimates from 0 up, by MOVER for ratios.

    NaN if both are 0.
    """
    x, z = part.value, rest.value
    if x + z == 0:
        return Estimate(np.nan)
    wide, narrow = part.high * (2 * x - part.high), part.low * (2 * x - part.low)
    least, most = rest.low * (2 * z - rest.low), rest.high * (2 * z - rest.high)
    root = x * z + np.sqrt(max(0.0, (x * z) ** 2 - least * wide))
    ratio_low = least / root if root > 0 else 0.0
    top = x * z + np.sqrt(max(0.0, (x * z) ** 2 - most * narrow))
    ratio_high = top / narrow if narrow > 0 else np.inf
    return Estimate(x / (x + z), float(1 / (1 + ratio_high)), float(1 / (1 + ratio_low)))
