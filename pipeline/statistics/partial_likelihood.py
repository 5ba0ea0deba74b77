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
        log_hazard, sums, dying = self.moments(beta)
        total, first, second = sums - self.done * dying
        mean = first / total
        likelihood = float((log_hazard[self.events] - np.log(total)).sum())
        return likelihood, mean, second / total - mean**2

    def moments(self, beta: float) -> tuple[Float64, Float64, Float64]:
        """Return hazards, and their sums at each event.

        Args:
            beta: log hazard ratio for a difference of 1.

        Returns:
            float64 ``[n]``, log hazard of each patient minus the largest; float64 ``[3, events]``,
            sums over those at risk of hazard, hazard x measure and hazard x measure squared;
            float64 ``[3, events]``, the same sums over the events of the same time.
        """
        eta = beta * self.x
        log_hazard = eta - float(eta.max())
        weight = np.exp(log_hazard)
        of_risk = np.stack([weight, weight * self.x, weight * self.x**2])
        sums = np.cumsum(of_risk[:, ::-1], axis=1)[:, ::-1][:, self.first]
        dying = np.stack([np.bincount(self.tie, part) for part in of_risk[:, self.events]])
        return log_hazard, sums, np.asarray(dying[:, self.tie], np.float64)

    def residuals(self, beta: float) -> Float64:
        """Return the measure of each event minus the mean of those at risk (Schoenfeld).

        Returns:
            float64 ``[events]``, in the order of `time`.
        """
        return np.asarray(self.x[self.events] - self.means(beta)[1], np.float64)

    def maximize(self, beta: float = 0.0) -> tuple[float, float] | None:
        """Return log hazard ratio and standard error, by Newton's method; None without success.

        A step that lowers the likelihood is halved.

        Args:
            beta: log hazard ratio to begin with.
        """
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
