"""Correction of p-values for the number of tests."""

from typing import Final

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.estimate import finite

ALPHA: Final = 0.05
"""Level of a test below which a difference is called one."""


def holm(p: npt.ArrayLike) -> Float64:
    """Return p-values corrected for all tests of a family, by Holm's step-down method.

    The smallest of m p-values is multiplied by m, the next one by m - 1, and so on. No corrected
    value is below one of a smaller p-value, or above 1. The chance of one false claim or more among
    all tests stays below the level of the test, whatever their dependence.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6 (1979), 65-70.

    Args:
        p: p-values ``[m]`` of all tests that were made, 0..1.

    Raises:
        ValueError: if a p-value is missing or outside 0..1.
    """
    p = finite(p)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("a p-value lies outside 0..1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
