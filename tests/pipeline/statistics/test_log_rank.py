"""Log-rank test against brute force, a published trial, and the same test without each patient."""

import time as clock

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from survival_data import cohort, trial

from noctile.pipeline.statistics.log_rank import logrank, logrank_without_each
from noctile.pipeline.statistics.survival import MIN_EVENTS, Refusal


def test_the_leukemia_trial() -> None:
    """Textbooks print 16.79 for these data."""
    time, event, group = trial()
    found = logrank(time, event, ["placebo" if g else "treated" for g in group])
    assert found.statistic == pytest.approx(16.79, abs=0.005)
    assert (found.freedom, found.n, found.events) == (1, 42, 30)
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 1))


def test_two_groups_equal_sums_over_the_times() -> None:
    time, event, x = cohort(50, 0.5)
    first = x > 0
    observed = expected = variance = 0.0
    for t in np.unique(time[event]):
        n, d = (time >= t).sum(), (event & (time == t)).sum()
        n1 = (first & (time >= t)).sum()
        observed += (event & first & (time == t)).sum()
        expected += d * n1 / n
        variance += d * n1 / n * (1 - n1 / n) * (n - d) / (n - 1) if n > 1 else 0
    found = logrank(time, event, ["a" if f else "b" for f in first])
    assert found.statistic == pytest.approx((observed - expected) ** 2 / variance)


def test_three_groups_agree_with_scipy_for_pairs() -> None:
    time, event, x = cohort(60, 0.0, 4)
    names = np.array(["a", "b", "c"])[np.digitize(x, (-0.5, 0.5))]
    found = logrank(time, event, names.tolist())
    assert found.freedom == 2
    pair = names != "c"
    sides = [
        stats.CensoredData(uncensored=time[(names == k) & event], right=time[(names == k) & ~event])
        for k in "ab"
    ]
    other = stats.logrank(*sides)
    two = logrank(time[pair], event[pair], names[pair].tolist())
    assert two.p == pytest.approx(other.pvalue)


def test_refusals() -> None:
    time, event = np.arange(1.0, 31), np.arange(30) < MIN_EVENTS - 1
    assert logrank(time, event, ["a", "b"] * 15) is Refusal.TOO_FEW_EVENTS
    assert logrank(time, ~event, ["a"] * 30) is Refusal.NO_VARIATION
    with pytest.raises(ValueError, match="30 times have 2 groups"):
        logrank(time, event, ["a", "b"])


def test_the_null_is_rejected_at_its_nominal_rate() -> None:
    p = []
    for seed in range(500):
        time, event, x = cohort(40, 0.0, seed)
        p.append(logrank(time, event, ["a" if v > 0 else "b" for v in x]).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


def drawn(n: int, groups: int, grid: float, seed: int = 0):
    """Patients in groups; times on a grid are tied."""
    random = np.random.default_rng(seed)
    time = np.ceil(random.exponential(10, n) / grid) * grid
    return time, random.random(n) < 0.6, random.integers(0, groups, n).astype(str)


@pytest.mark.parametrize(
    ("n", "groups", "grid"), [(40, 2, 1e-9), (40, 2, 5), (60, 3, 1), (60, 4, 8)]
)
def test_without_each_patient_it_is_the_same_test_again(n, groups, grid) -> None:
    time, event, of = drawn(n, groups, grid)
    found = logrank_without_each(time, event, of)
    for k in range(n):
        rest = (np.delete(part, k) for part in (time, event.astype(int), of))
        assert (found.statistic[k], found.p[k]) == pytest.approx(survdiff(*rest), rel=1e-9)


def test_a_group_that_is_gone_before_the_first_event_does_not_count() -> None:
    time, event, of = drawn(40, 2, 1)
    early = np.append(time, [0.1, 0.2]), np.append(event, [False] * 2), np.append(of, ["c"] * 2)
    found, alone = logrank(*early), logrank(time, event, of)
    assert found.p == pytest.approx(alone.p)
    assert (found.freedom, found.n) == (1, 42)
    only = np.array(["a"] * 40 + ["c"] * 2)
    assert logrank(early[0], early[1], only) is Refusal.NOT_AT_RISK
    assert np.isnan(logrank_without_each(early[0], early[1], only).p).all()


def test_without_the_only_patient_of_a_group_the_others_are_compared() -> None:
    time, event, of = drawn(40, 2, 1)
    found = logrank_without_each(np.append(time, 9), np.append(event, True), np.append(of, "c"))
    assert found.p[-1] == pytest.approx(logrank(time, event, of).p)
    two = np.where(np.arange(40) == 5, "b", "a")
    found = logrank_without_each(time, event, two)
    assert np.flatnonzero(np.isnan(found.p)).tolist() == [5]


def test_without_a_needed_event_it_is_refused() -> None:
    time, event = np.arange(1.0, 31), np.arange(30) % 3 == 0
    found = logrank_without_each(time, event, np.array(["a", "b"] * 15))
    assert event.sum() == MIN_EVENTS
    assert np.isnan(found.p).tolist() == event.tolist()


def test_events_at_one_time_alone_tell_nothing() -> None:
    found = logrank(np.full(20, 3.0), np.ones(20, bool), ["a", "b", "c", "d"] * 5)
    assert (found.statistic, found.p) == (0, 1)


def test_5000_patients_are_fast_without_each() -> None:
    patients = drawn(5000, 3, 1e-9)
    start = clock.process_time()
    logrank_without_each(*patients)
    assert clock.process_time() - start < 0.5
