"""Survival curves of Kaplan and Meier, with the intervals of Greenwood on the log-log scale.

Sources: Kaplan and Meier, Journal of the American Statistical Association 53 (1958), 457-481;
Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (2002), section 1.4, for
the log-log scale; Brookmeyer and Crowley, Biometrics 38 (1982), 29-41, for the median; Schemper
and Smith, Controlled Clinical Trials 17 (1996), 343-346, for the follow-up.
"""

import math
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.statistics.estimate import Estimate, finite
from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Survival curve: a row at time 0 and at each time of an event or a censoring.

    Attributes:
        time: float64 ``[rows]``, times in the unit of the input, ascending, from 0.
        survival: float64 ``[rows]``, share that lives longer, 0..1.
        low: float64 ``[rows]``, lower end of the 95 % interval; NaN where survival is 0.
        high: float64 ``[rows]``, upper end.
        at_risk: int64 ``[rows]``, patients that are watched just before.
        events: int64 ``[rows]``, events at this time.
        censored: int64 ``[rows]``, patients whose watch ends here without event.
    """

    time: Float64
    survival: Float64
    low: Float64
    high: Float64
    at_risk: Int64
    events: Int64
    censored: Int64

    @property
    def median(self) -> Estimate:
        """Time at which survival falls to one half; NaN if it does not.

        Each end of the interval is the time at which an end of the curve's interval does.
        """
        return self._median(self.events)

    @property
    def follow_up(self) -> Estimate:
        """Median follow-up: the median of the curve in which events and censoring change places."""
        return self._median(self.censored)

    def _median(self, ends: Int64) -> Estimate:
        return Estimate(*(self._first_half(share) for share in _product(self.at_risk, ends)))

    def _first_half(self, share: Float64) -> float:
        fallen = share <= 0.5 + 1e-12
        return float(self.time[fallen][0]) if fallen.any() else math.nan


def kaplan_meier(time: Float64, event: Bool) -> Curve:
    """Return the survival curve of a group.

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event, False for a censored time.

    Raises:
        ValueError: if a time is missing or below 0, or there are none.
    """
    time, event = survival_times(time, event)
    times, which = np.unique(np.append(time, 0.0), return_inverse=True)
    ends, events = (
        np.bincount(which[:-1], weights=weights, minlength=len(times)).astype(np.int64)
        for weights in (None, event)
    )
    at_risk = len(time) - np.cumsum(ends) + ends
    return Curve(times, *_product(at_risk, events), at_risk, events, ends - events)


def _product(at_risk: Int64, events: Int64) -> tuple[Float64, Float64, Float64]:
    """Share without event after each time, and the ends of its interval."""
    share: Float64 = np.cumprod(1 - events / at_risk, dtype=np.float64)
    left = np.where(at_risk > events, at_risk - events, 1)
    return share, *_ends(share, np.cumsum(events / (at_risk * left)))


def _ends(survival: Float64, greenwood: Float64) -> tuple[Float64, Float64]:
    """Ends of the intervals: survival to the power exp(-/+ z sqrt(greenwood) / log survival)."""
    inside = (survival > 0) & (survival < 1)
    log = np.log(survival, where=inside, out=np.full(len(survival), -1.0))
    spread = np.exp(NORMAL_QUANTILE * np.sqrt(greenwood) / -log)
    certain = np.where(survival == 1, 1.0, np.nan)
    with np.errstate(under="ignore"):
        low, high = np.exp(log * spread), np.exp(log / spread)
    return np.where(inside, low, certain), np.where(inside, high, certain)


def survival_times(time: Float64, event: Bool) -> tuple[Float64, Bool]:
    """Return times and events as arrays.

    Raises:
        ValueError: if a time is missing or below 0, an event is neither 0 nor 1, or there is no
            patient.
    """
    time = finite(time)
    marks = finite(event, len(time))
    if not len(time):
        raise ValueError("there is no patient with a time")
    if (time < 0).any():
        raise ValueError("a time is below 0")
    if not np.isin(marks, (0, 1)).all():
        raise ValueError("an event is neither 0 nor 1")
    return time, marks.astype(bool)
