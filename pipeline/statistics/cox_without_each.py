"""Cox regression on one measure without each patient.

The likelihood without a patient differs from that of all in the sums at the events that the patient
was at risk at. Its slope and curvature at the estimate of all patients are exact. With the third
and fourth derivative of all patients, they give the step to the estimate without the patient. Where
the step is not short, or the curvature of all patients is another one, and for all patients of a
small cohort, the model is fitted anew. Other p-values above 0.001 are right to 1 %
(`tests/pipeline/statistics/test_cox_without_each.py`).

Source of the idea: Therneau and Grambsch, Modeling Survival Data (2000), section 7.1, whose dfbeta
is a shorter approximation of the same step.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy.special import ndtr

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.statistics.estimate import finite
from noctile.pipeline.statistics.kaplan_meier import survival_times
from noctile.pipeline.statistics.partial_likelihood import PartialLikelihood
from noctile.pipeline.statistics.survival import MIN_EVENTS, Refusal, fit
from noctile.pipeline.statistics.without_each import WithoutEach

_FEW: Final = 200
"""Most patients for which all models are fitted anew."""

_SHORT: Final = 0.01
"""Change of the log hazard ratio per standard deviation, times 1 + d^2, up to which the step is
taken; d is the distance of the patient from the mean in standard deviations."""

_STEADY: Final = 0.03
"""Change of the curvature, as a part of it, up to which the step is taken: the third and fourth
derivative change with it."""

_H: Final = 1e-3
"""Difference of log hazard ratios for the third and fourth derivative."""

_ITERATIONS: Final = 4
"""Iterations of a short step: each adds two digits or more."""

_CHUNK_VALUES: Final = 50_000
"""Values that are computed together: they stay in the cache of a processor."""


def cox_without_each(time: Float64, event: Bool, measure: Float64) -> WithoutEach:
    """Repeat a Cox regression without each patient.

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event.
        measure: float64 ``[n]``, one value for each patient, finite.

    Returns:
        Log hazard ratio for a difference of 1, and Wald's two-sided p-value; NaN where the
        regression is refused without the patient. All are NaN if that of all patients is.

    Raises:
        ValueError: if a value or time is missing, or a time is below 0.
    """
    time, event = survival_times(time, event)
    measure = finite(measure, len(time))
    whole = fit(time, event, measure)
    if isinstance(whole, Refusal):
        return WithoutEach(np.full(len(time), np.nan), np.full(len(time), np.nan))
    scale = float(measure.std())
    x = (measure - measure.mean()) / scale
    beta, error, change = _steps(time, event, x, whole[0] * scale)
    short = (np.abs(beta - whole[0] * scale) * (1 + x**2) < _SHORT) & (np.abs(change) < _STEADY)
    short &= len(x) > _FEW
    beta, error = beta / scale, error / scale
    for k in np.flatnonzero(~short | (event.sum() - event < MIN_EVENTS)):
        rest = fit(np.delete(time, k), np.delete(event, k), np.delete(measure, k), whole[0])
        beta[k], error[k] = (np.nan, np.nan) if isinstance(rest, Refusal) else rest
    return WithoutEach(beta, 2 * ndtr(-np.abs(beta) / error))


def _steps(time: Float64, event: Bool, x: Float64, beta: float) -> tuple[Float64, Float64, Float64]:
    """Log hazard ratio without each patient and its standard error, by a series at that of all.

    They are NaN where the curvature is not above 0. The third figure is the change of the curvature
    at that of all, as a part of it.
    """
    order = np.argsort(time, kind="stable")
    likelihood = PartialLikelihood.of(time[order], event[order], x[order])
    with np.errstate(all="ignore"):
        slope, information = _derivatives(likelihood, time[order], beta)
        below, here, above = (
            float(likelihood.means(beta + difference)[2].sum()) for difference in (-_H, 0, _H)
        )
        third, fourth = (above - below) / (2 * _H), (above - 2 * here + below) / _H**2
        step = np.zeros(len(x))
        for _ in range(_ITERATIONS):
            step = (slope - third * step**2 / 2 - fourth * step**3 / 6) / information
        change = information / here - 1
        information += third * step + fourth * step**2 / 2
        found = np.empty((3, len(x)))
        found[:, order] = beta + step, 1 / np.sqrt(information), change
    return found[0], found[1], found[2]


def _derivatives(
    likelihood: PartialLikelihood, time: Float64, beta: float
) -> tuple[Float64, Float64]:
    """First derivative of the log likelihood without each patient, and minus the second.

    Args:
        likelihood: likelihood of all patients.
        time: float64 ``[n]``, their times, ascending.
        beta: log hazard ratio.
    """
    x, events, tie = likelihood.x, likelihood.events, likelihood.tie
    _, mean, variance = likelihood.means(beta)
    slope = np.full(len(x), (x[events] - mean).sum())
    information = np.full(len(x), variance.sum())
    slope[events] += np.bincount(tie, mean)[tie] - x[events]
    information[events] -= np.bincount(tie, variance)[tie]
    for change in (_at_other_times, _at_own_time):
        less_slope, more_information = change(likelihood, time, beta)
        slope -= less_slope
        information += more_information
    return slope, information


def _at_other_times(
    likelihood: PartialLikelihood, time: Float64, beta: float
) -> tuple[Float64, Float64]:
    """Change of the sums of mean and variance at the events at which a patient is only at risk.

    Without a patient, the mean at an event goes away from the patient's value by ``away`` times the
    difference.
    """
    x, events = likelihood.x, likelihood.events
    log_hazard, sums, dying = likelihood.moments(beta)
    weight, total = np.exp(log_hazard), (sums - likelihood.done * dying)[0]
    _, mean, variance = likelihood.means(beta)
    ones = np.ones(len(events))
    linear, square = np.stack([ones, mean, variance], 1), np.stack([ones, mean, mean**2], 1)
    until = np.searchsorted(likelihood.time, time, side="right")
    until[events] = np.searchsorted(likelihood.time, likelihood.time)
    of_mean, of_variance = np.zeros(len(x)), np.zeros(len(x))
    for rows in _chunks(len(x), len(events)):
        last, own = int(until[rows].max()), weight[rows, None]
        at_risk = np.arange(last) < until[rows, None]
        away = np.where(at_risk, own / (total[:last] - own), 0)
        one, means, variances = (away @ linear[:last]).T
        ones_, means_, squares = ((away + away**2) @ square[:last]).T
        of_mean[rows] = means - x[rows] * one
        of_variance[rows] = variances - squares + 2 * x[rows] * means_ - x[rows] ** 2 * ones_
    return of_mean, of_variance


def _at_own_time(
    likelihood: PartialLikelihood, time: Float64, beta: float
) -> tuple[Float64, Float64]:
    """Sums of mean and variance at the other events of the time at which a patient has an event.

    Without one of d events, Efron's shares of those that come before are k / (d - 1).
    """
    x, events = likelihood.x, likelihood.events
    log_hazard, sums, dying = likelihood.moments(beta)
    others = np.bincount(likelihood.tie)[likelihood.tie] - 1
    own = np.exp(log_hazard) * np.stack([np.ones(len(x)), x, x**2])
    of_mean, of_variance = np.zeros(len(time)), np.zeros(len(time))
    for rows in _chunks(len(events), int(others.max(initial=0))):
        event = np.repeat(np.arange(len(events))[rows], others[rows])
        done = np.arange(len(event)) - np.searchsorted(event, event)
        less = own[:, events[event]]
        rest = sums[:, event] - less - done / others[event] * (dying[:, event] - less)
        mean = rest[1] / rest[0]
        of_mean += np.bincount(events[event], mean, len(time))
        of_variance += np.bincount(events[event], rest[2] / rest[0] - mean**2, len(time))
    return of_mean, of_variance


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows with a bounded number of values."""
    some = max(1, _CHUNK_VALUES // max(columns, 1))
    return (slice(first, first + some) for first in range(0, rows, some))
