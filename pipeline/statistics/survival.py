"""Cox regression of survival on one measure.

The regression of statsmodels gives the same figures (the tests compare them) but takes seconds for
5,000 patients.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy.special import chdtrc, ndtr

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.statistics.correlation import mean_ranks
from noctile.pipeline.statistics.estimate import Estimate, finite
from noctile.pipeline.statistics.kaplan_meier import survival_times
from noctile.pipeline.statistics.partial_likelihood import PartialLikelihood
from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE

MIN_EVENTS: Final = 10
"""Fewest events for each covariate of a Cox regression: Peduzzi et al., Journal of Clinical
Epidemiology 48 (1995), 1503-1510."""


class Refusal(StrEnum):
    """Reasons for which a survival analysis is not made."""

    TOO_FEW_EVENTS = "too few events"
    NO_VARIATION = "all patients have the same value"
    SEPARATED = "the values order the events perfectly: no hazard ratio is finite"
    NOT_AT_RISK = "no event happens while two groups are at risk"
    NOT_CONVERGED = "the estimate did not converge"


@dataclass(frozen=True, slots=True)
class Cox:
    """Cox regression on one measure.

    Attributes:
        n: number of patients.
        events: number of events.
        hazard_ratio: ratio of the hazards for a difference of ``unit``, or of those above the cut
            to the others.
        p: two-sided p-value of Wald's test.
        p_proportional: p-value of the test of proportional hazards; a small one says that the
            ratio changes with time.
        unit: difference of the measure that the ratio is for.
        cut: pre-stated cut; None for the measure itself.
    """

    n: int
    events: int
    hazard_ratio: Estimate
    p: float
    p_proportional: float
    unit: float
    cut: float | None


def cox(
    time: Float64, event: Bool, measure: Float64, unit: float = 1, cut: float | None = None
) -> Cox | Refusal:
    """Fit a Cox regression on one measure, with Efron's method for ties.

    A cut is stated before the analysis. No cut is searched here: the best of many has a p-value
    that is far too small (Altman et al., Journal of the National Cancer Institute 86 (1994),
    829-835).

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event.
        measure: float64 ``[n]``, one value for each patient, finite.
        unit: difference of the measure that the hazard ratio is for, without a cut.
        cut: compares patients above this value with the others.

    Returns:
        A refusal with fewer than `MIN_EVENTS` events, without variation, without a finite
        estimate, or without convergence.

    Raises:
        ValueError: if a value or time is missing, or a time is below 0.
    """
    time, event = survival_times(time, event)
    measure = finite(measure, len(time))
    x = measure / unit if cut is None else (measure > cut).astype(np.float64)
    fitted = fit(time, event, x)
    if isinstance(fitted, Refusal):
        return fitted
    beta, error = fitted
    ratio = Estimate(*(_exp(beta + sign * NORMAL_QUANTILE * error) for sign in (0, -1, 1)))
    p = 2 * float(ndtr(-abs(beta) / error))
    proportional = _p_proportional(time, event, x, beta, error)
    unit = unit if cut is None else 1
    return Cox(len(time), int(event.sum()), ratio, p, proportional, unit, cut)


def _exp(x: float) -> float:
    """Exponential function that is infinite where no number is so large."""
    return math.exp(x) if x < 700 else math.inf


def fit(time: Float64, event: Bool, x: Float64, start: float = 0) -> tuple[float, float] | Refusal:
    """Return log hazard ratio and its standard error.

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event.
        x: float64 ``[n]``, one value for each patient, finite.
        start: log hazard ratio to begin with.
    """
    if int(event.sum()) < MIN_EVENTS:
        return Refusal.TOO_FEW_EVENTS
    scale = float(x.std())
    if np.ptp(x) == 0 or scale == 0:
        return Refusal.NO_VARIATION
    likelihood = PartialLikelihood.of(time, event, (x - x.mean()) / scale)
    if likelihood.separated:
        return Refusal.SEPARATED
    found = likelihood.maximize(start * scale)
    return (found[0] / scale, found[1] / scale) if found else Refusal.NOT_CONVERGED


def _p_proportional(time: Float64, event: Bool, x: Float64, beta: float, error: float) -> float:
    """P-value of the correlation of Schoenfeld residuals with the rank of their time.

    Source: Grambsch and Therneau, Proportional hazards tests and diagnostics based on weighted
    residuals, Biometrika 81 (1994), 515-526, with the variance taken as constant in time.
    """
    likelihood = PartialLikelihood.of(time, event, x)
    rank = mean_ranks(likelihood.time)
    centred = rank - rank.mean()
    spread = float(centred @ centred)
    if spread == 0:
        return math.nan
    trend = float(centred @ likelihood.residuals(beta))
    return float(chdtrc(1, len(rank) * (error * trend) ** 2 / spread))
