"""Survival curves against statsmodels, a published trial, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from noctile.pipeline.statistics.kaplan_meier import kaplan_meier

WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSE = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
"""Remission of leukemia under 6-mercaptopurine: Freireich et al., Blood 21 (1963), 699-716."""

PATIENTS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30)


def curve_of(patients):
    return kaplan_meier(
        np.array([t for t, _ in patients], float), np.array([e for _, e in patients])
    )


def test_the_leukemia_trial():
    """Kalbfleisch and Prentice print these values of survival, and 23 weeks as the median."""
    curve = kaplan_meier(np.array(WEEKS, float), np.array(RELAPSE, bool))
    at = dict(zip(curve.time.tolist(), curve.survival.tolist(), strict=True))
    assert [round(at[t], 3) for t in (6, 7, 10, 13, 16, 22, 23)] == [
        0.857,
        0.807,
        0.753,
        0.690,
        0.627,
        0.538,
        0.448,
    ]
    assert (curve.median.value, curve.median.low) == (23, 13)
    assert math.isnan(curve.median.high)
    assert (curve.time[0], curve.survival[0], curve.at_risk[0]) == (0, 1, 21)
    assert (curve.events.sum(), curve.censored.sum()) == (9, 12)


@pytest.mark.parametrize("seed", range(5))
def test_curve_and_interval_agree_with_statsmodels(seed):
    random = np.random.default_rng(seed)
    time, event = random.integers(1, 30, 60).astype(float), random.random(60) < 0.6
    event[time == time.max()] = False
    curve = kaplan_meier(time, event)
    other = SurvfuncRight(time, event.astype(int))
    rows = np.isin(curve.time, other.surv_times) & (curve.events > 0)
    kept = np.isin(other.surv_times, curve.time[rows])
    s, se = other.surv_prob[kept], other.surv_prob_se[kept]
    assert curve.survival[rows] == pytest.approx(s)
    assert curve.at_risk[rows] == pytest.approx(other.n_risk[kept])
    half = 1.959963984540054 * se / (s * np.abs(np.log(s)))
    assert curve.low[rows] == pytest.approx(s ** np.exp(half))
    assert curve.high[rows] == pytest.approx(s ** np.exp(-half))


@pytest.mark.parametrize("seed", range(3))
def test_median_follow_up_is_the_median_with_events_and_censoring_exchanged(seed):
    random = np.random.default_rng(seed)
    time, event = random.integers(1, 30, 60).astype(float), random.random(60) < 0.5
    found = kaplan_meier(time, event).follow_up
    other = SurvfuncRight(time, (~event).astype(int))
    assert found.value == other.quantile(0.5)
    assert (found.low, found.high) == other.quantile_ci(0.5, method="cloglog")


@given(PATIENTS)
def test_law_survival_falls_from_1_within_its_interval(patients):
    curve = curve_of(patients)
    assert (np.diff(np.append(1, curve.survival)) <= 0).all()
    inside = curve.survival > 0
    assert (curve.low[inside] <= curve.survival[inside] + 1e-12).all()
    assert (curve.high[inside] >= curve.survival[inside] - 1e-12).all()
    assert np.isnan(curve.low[~inside]).all()
    assert curve.time[0] == 0
    assert curve.at_risk[0] == len(patients) == curve.events.sum() + curve.censored.sum()


@given(PATIENTS)
def test_law_without_censoring_survival_is_the_share_that_lives_longer(patients):
    curve = curve_of([(t, True) for t, _ in patients])
    times = np.array([t for t, _ in patients])
    assert curve.survival == pytest.approx([(times > t).mean() for t in curve.time])


def test_wrong_input_is_refused():
    for time, event, message in (
        ([1, -1], [1, 0], "below 0"),
        ([1, math.nan], [1, 0], "missing"),
        ([1, 2], [1, 2], "neither 0 nor 1"),
        ([1, 2], [1], "expected 2 values"),
        ([], [], "no patient"),
    ):
        with pytest.raises(ValueError, match=message):
            kaplan_meier(np.array(time, float), np.array(event))
