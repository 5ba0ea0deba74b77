"""Log-rank test of groups, with all patients and without each of them.

Without one patient, the counts of one group are smaller by 1 until the patient's time. So all
tests without a patient of a group share the same sums over the times of events.

Source: Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (2002), section 1.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy.special import chdtrc

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.statistics.kaplan_meier import survival_times
from noctile.pipeline.statistics.survival import MIN_EVENTS, Refusal

_ZERO: Final = 1e-9
"""Expected events below which a group is never at risk when an event happens."""

_RANK: Final = 1e-12
"""Share of the largest eigenvalue below which one is 0."""


@dataclass(frozen=True, slots=True)
class LogRank:
    """Log-rank test of the equality of survival curves.

    Attributes:
        statistic: chi-square.
        freedom: degrees of freedom, one less than the groups with patients at risk at an event.
        p: p-value.
        n: number of patients.
        events: number of events.
    """

    statistic: float
    freedom: int
    p: float
    n: int
    events: int


@dataclass(frozen=True, slots=True, eq=False)
class LogRankWithoutEach:
    """Log-rank test without each patient.

    Attributes:
        statistic: float64 ``[n]``, chi-square; NaN where the test is refused without the patient.
        p: float64 ``[n]``, p-value; NaN where the test is refused.
    """

    statistic: Float64
    p: Float64


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Patients of each group at the times of events.

    Attributes:
        names: names of the groups.
        codes: int64 ``[n]``, group of each patient.
        until: int64 ``[n]``, number of times of events up to the time of each patient.
        at_risk: int64 ``[times, groups]``, patients who are watched just before.
        events: int64 ``[times, groups]``, events.
    """

    names: Sequence[str]
    codes: Int64
    until: Int64
    at_risk: Int64
    events: Int64

    @classmethod
    def of(cls, time: Float64, event: Bool, groups: Sequence[str]) -> Self:
        names, codes = np.unique(np.asarray(groups, str), return_inverse=True)
        times = np.unique(time[event])
        until = np.searchsorted(times, time, side="right")
        leaving, events = (np.zeros((len(times) + 1, len(names)), np.int64) for _ in range(2))
        np.add.at(leaving, (until, codes), 1)
        np.add.at(events, (until[event], codes[event]), 1)
        at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
        return cls(names.tolist(), codes, until, at_risk[1:], events[1:])


def logrank(time: Float64, event: Bool, groups: Sequence[str]) -> LogRank | Refusal:
    """Compare the survival of groups by the log-rank test.

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event.
        groups: name of the group of each patient, ``[n]``.

    Returns:
        A refusal with fewer than `MIN_EVENTS` events, if all patients are in one group, or if no
        event happens while two groups are at risk.

    Raises:
        ValueError: if a time is missing or below 0, or the groups do not fit the times.
    """
    time, event = _checked(time, event, groups)
    counts, events = _Counts.of(time, event, groups), int(event.sum())
    if events < MIN_EVENTS:
        return Refusal.TOO_FEW_EVENTS
    if len(counts.names) < 2:
        return Refusal.NO_VARIATION
    statistic, freedom = _chi_square(_sums(counts.at_risk, counts.events).sum(axis=0))
    if freedom < 1:
        return Refusal.NOT_AT_RISK
    p = float(chdtrc(freedom, statistic))
    return LogRank(float(statistic), int(freedom), p, len(time), events)


def logrank_without_each(time: Float64, event: Bool, groups: Sequence[str]) -> LogRankWithoutEach:
    """Repeat the log-rank test without each patient. The figures are exact.

    Args:
        time: float64 ``[n]``, time of the event or of the last watch, 0 or more.
        event: bool ``[n]``, True for an event.
        groups: name of the group of each patient, ``[n]``.

    Raises:
        ValueError: if a time is missing or below 0, or the groups do not fit the times.
    """
    time, event = _checked(time, event, groups)
    counts = _Counts.of(time, event, groups)
    statistic, freedom = np.zeros(len(time)), np.zeros(len(time), np.int64)
    later = _cumulated(_sums(counts.at_risk, counts.events)[::-1])[::-1]
    for group in range(len(counts.names)):
        one = np.arange(len(counts.names)) == group
        before = _cumulated(_sums(counts.at_risk - one, counts.events))
        own = _sums(counts.at_risk - one, counts.events - one)
        dying, others = ((counts.codes == group) & (event == dies) for dies in (True, False))
        last = counts.until[dying] - 1
        found = _chi_square(before[last] + own[last] + later[last + 1])
        statistic[dying], freedom[dying] = found
        last = counts.until[others]
        statistic[others], freedom[others] = _chi_square(before[last] + later[last])
    refused = (freedom < 1) | (event.sum() - event < MIN_EVENTS)
    statistic[refused] = np.nan
    return LogRankWithoutEach(statistic, chdtrc(np.maximum(freedom, 1), statistic))


def _checked(time: Float64, event: Bool, groups: Sequence[str]) -> tuple[Float64, Bool]:
    time, event = survival_times(time, event)
    if len(groups) != len(time):
        raise ValueError(f"{len(time)} times have {len(groups)} groups")
    return time, event


def _sums(at_risk: Int64, events: Int64) -> Float64:
    """Return the parts of the test at each time, ``[times, groups, groups + 2]``.

    They are the covariance of the events, the events minus those expected, and those expected.
    """
    n, d = at_risk.sum(axis=1, keepdims=True), events.sum(axis=1, keepdims=True)
    share = at_risk / np.maximum(n, 1)
    spread = (d * (n - d) / np.maximum(n - 1, 1))[..., None]
    covariance = spread * (
        share[:, :, None] * np.eye(share.shape[1]) - share[:, :, None] * share[:, None]
    )
    expected = d * share
    return np.concatenate((covariance, np.stack((events - expected, expected), axis=2)), axis=2)


def _cumulated(sums: Float64) -> Float64:
    """Sums of the first 0, 1, 2, ... rows."""
    return np.concatenate((np.zeros((1, *sums.shape[1:])), np.cumsum(sums, axis=0)))


def _chi_square(sums: Float64) -> tuple[Float64, Int64]:
    """Return chi-square and degrees of freedom of sums ``[..., groups, groups + 2]``."""
    covariance, surplus, expected = sums[..., :-2], sums[..., -2], sums[..., -1]
    inverse = np.linalg.pinv(covariance, rcond=_RANK, hermitian=True)
    statistic = np.einsum("...g,...gh,...h->...", surplus, inverse, surplus)
    return statistic, (expected > _ZERO).sum(axis=-1) - 1
