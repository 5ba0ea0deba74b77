"""Description of one measure in one group of patients."""

import math
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.statistics.bootstrap import bootstrap
from noctile.pipeline.statistics.estimate import Estimate, finite


@dataclass(frozen=True, slots=True)
class Description:
    """Position and spread of one measure, in its unit; NaN where there are no values.

    Attributes:
        n: number of patients.
        median: median.
        q1: first quartile.
        q3: third quartile.
        mean: mean with its bootstrap interval, see `bootstrap`.
    """

    n: int
    median: float
    q1: float
    q3: float
    mean: Estimate


def describe(values: Float64, seed: int = 0) -> Description:
    """Describe the values of a group.

    Quartiles are interpolated linearly (type 7 of Hyndman and Fan, The American Statistician 50
    (1996), 361-365).

    Args:
        values: float64 ``[n]``, one value for each patient, finite.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a value is missing.
    """
    values = finite(values)
    if not len(values):
        return Description(0, math.nan, math.nan, math.nan, Estimate(math.nan))
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Description(len(values), median, q1, q3, bootstrap(values, seed=seed))
