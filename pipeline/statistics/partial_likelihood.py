"""Partial likelihood of a Cox regression on one measure, with Efron's method for ties.

Sums over the patients at risk are cumulative sums, so that a fit takes n log n steps.

Sources: Cox, Regression models and life-tables, Journal of the Royal Statistical Society B 34
(1972), 187-220; Efron, The efficiency of Cox's likelihood function for censored data, Journal of
the American Statistical Association 72 (1977), 557-565.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, Int64

_MAX_STEPS: Final = 100
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class PartialLikelihood:
    """Patients in the order of their times, and their events.

    Attributes:
        x: float64 ``[n]``, measure of each patient, ascending in time.
        events: int64 ``[events]``, numbers of the patients with an event.
        time: float64 ``[events]``, time of each event.
        first: int64 ``[events]``, first patient that is at risk at each event.
        tie: int64 ``[events]``, number of the distinct time of each event.
        done: float64 ``[events]``, share of the tied events that come before this one: the k-th of
            d has (k - 1) / d.
    """

    x: Float64
    events: Int64
    time: Float64
    first: Int64
    tie: Int64
    done: Float64

    @classmethod
    def of(cls, time: Float64, event: Bool, x: Float64) -> Self:
        """Order the patients.

        Args:
            time: float64 ``[n]``, time of the event or of the last watch.
            event: bool ``[n]``, True for an event.
            x: float64 ``[n]``, measure.
        """
        order = np.argsort(time, kind="stable")
        times, events = time[order], np.flatnonzero(event[order])
        of_events = times[events]
        _, start, tie, size = np.unique(
            of_events, return_index=True, return_inverse=True, return_counts=True
        )
        done = (np.arange(len(events)) - start[tie]) / size[tie]
        return cls(x[order], events, of_events, np.searchsorted(times, of_events), tie, done)

    @property
    def separated(self) -> bool:
        """True if the likelihood has no maximum: each event has the extreme value at risk."""
        return any(
            bool((x[self.events] >= np.maximum.accumulate(x[::-1])[::-1][self.first]).all())
            for x in (self.x, -self.x)
        )

    def means(self, beta: float) -> tuple[float, Float64, Float64]:
        """Return log likelihood, and mean and variance of the measure among those at risk.

        Args:
            beta: log hazard ratio for a difference of 1.

        Returns:
            Log likelihood; float64 ``[events]``, mean at each event; float64 ``[events]``, its
            variance. Patients weigh as their hazard.
        """
        eta = beta * self.x
        top = float(eta.max())
        weight = np.exp(eta - top)
        of_risk = np.stack([weight, weight * self.x, weight * self.x**2])
        sums = np.cumsum(of_risk[:, ::-1], axis=1)[:, ::-1][:, self.first]
        dying = np.stack([np.bincount(self.tie, part) for part in of_risk[:, self.events]])
        total, first, second = sums - self.done * dying[:, self.tie]
        mean = first / total
        likelihood = float((eta[self.events] - top - np.log(total)).sum())
        return likelihood, mean, second / total - mean**2

    def residuals(self, beta: float) -> Float64:
        """Return the measure of each event minus the mean of those at risk (Schoenfeld).

        Returns:
            float64 ``[events]``, in the order of `time`.
        """
        return np.asarray(self.x[self.events] - self.means(beta)[1], np.float64)

    def maximize(self) -> tuple[float, float] | None:
        """Return log hazard ratio and standard error, by Newton's method; None without success.

        A step that lowers the likelihood is halved.
        """
        beta = 0.0
        with np.errstate(all="ignore"):
            likelihood, mean, variance = self.means(beta)
            for _ in range(_MAX_STEPS):
                information = float(variance.sum())
                if not information > 0:
                    return None
                step = float((self.x[self.events] - mean).sum()) / information
                if abs(step) < _TOLERANCE:
                    return beta, 1 / math.sqrt(information)
                new = self.means(beta + step)
                while abs(step) > _TOLERANCE and not new[0] >= likelihood - _TOLERANCE:
                    step /= 2
                    new = self.means(beta + step)
                beta, (likelihood, mean, variance) = beta + step, new
        return None
