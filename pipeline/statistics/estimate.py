"""Figure with its 95 % interval, and the check of the values that figures are made of."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import Float64

LEVEL: Final = 0.95
"""Confidence level of every interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval; NaN where there is none.

    Attributes:
        value: the figure.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


def finite(values: npt.ArrayLike, length: int | None = None) -> Float64:
    """Return values as an array, one for each patient.

    Args:
        values: numbers ``[n]``.
        length: expected ``n``; None for any.

    Raises:
        ValueError: if there is a missing or infinite value, another number of values than
            expected, or more than one dimension. The caller leaves out patients without a value,
            and counts them.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one value for each patient, got an array {array.shape}")
    if length is not None and len(array) != length:
        raise ValueError(f"expected {length} values, got {len(array)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} of {len(array)} values are missing")
    return array
