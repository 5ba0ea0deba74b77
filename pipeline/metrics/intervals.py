"""Bootstrap intervals of metrics, by the percentile method (Efron 1979)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.metrics.class_metrics import ClassMetrics, Metric
from noctile.pipeline.statistics.estimate import Estimate

RESAMPLES: Final = 1000
"""Number of sets that the bootstrap draws."""

LEVEL_PERCENT: Final = 95
"""Share of the drawn sets that an interval holds (%)."""


def bootstrap(confusions: Int64, resamples: int = RESAMPLES, seed: int = 0) -> Int64:
    """Confusion matrices of sets that are drawn from units with replacement.

    Each set has as many units as there are.

    Args:
        confusions: confusion matrix of each unit, int64 ``[units, n, n]``.
        resamples: number of sets.
        seed: seed of the draws.

    Returns:
        int64 ``[resamples, n, n]``.
    """
    units = len(confusions)
    times = np.random.default_rng(seed).multinomial(
        units, np.full(units, 1 / units), size=resamples
    )
    flat = confusions.reshape(units, -1).astype(np.float64)
    sums = times.astype(np.float64) @ flat  # whole numbers, therefore exact
    return sums.astype(np.int64).reshape(resamples, *confusions.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Metrics of a set of regions with their intervals.

    Attributes:
        pooled: metrics of all pixels of the set.
        drawn: metrics of the sets that the bootstrap drew; None if there are too few units.
    """

    pooled: ClassMetrics
    drawn: ClassMetrics | None

    def estimate(self, pick: Callable[[ClassMetrics], Float64]) -> Estimate:
        """One metric with its interval.

        A drawn set in which the metric does not exist, because the class is not in it, is left out.

        Args:
            pick: takes the metric out of `ClassMetrics`.
        """
        value, low, high = float(pick(self.pooled)), np.nan, np.nan
        if self.drawn is not None and np.isfinite(value):
            draws = pick(self.drawn)
            ends = (50 - LEVEL_PERCENT / 2, 50 + LEVEL_PERCENT / 2)
            low, high = np.percentile(draws[np.isfinite(draws)], ends)
        return Estimate(value, float(low), float(high))

    def of_class(self, metric: Metric, k: int) -> Estimate:
        """A metric of the class with index ``k``."""
        return self.estimate(lambda metrics: metrics.values(metric)[..., k])

    def mean(self, metric: Metric) -> Estimate:
        """Mean of a metric over the classes, see `ClassMetrics.mean`."""
        return self.estimate(lambda metrics: metrics.mean(metric))

    @property
    def accuracy(self) -> Estimate:
        """Share of the pixels that are right."""
        return self.estimate(lambda metrics: metrics.accuracy)
