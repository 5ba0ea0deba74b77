"""Intervals against scipy, against each other, and against exact coverage."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from noctile.pipeline.audit.intervals import jeffreys, mover_share, mover_sum
from noctile.pipeline.statistics.estimate import Estimate


@pytest.mark.parametrize(("hits", "points"), [(3, 20), (19, 20), (150, 300), (1, 7)])
def test_jeffreys_agrees_with_statsmodels(hits, points):
    low, high = jeffreys(np.array([hits / points]), np.array([float(points)]))
    expected = proportion_confint(hits, points, 0.05, "jeffreys")
    assert (low[0], high[0]) == pytest.approx(expected)


def test_jeffreys_reaches_the_ends_and_spans_all_without_points():
    low, high = jeffreys(np.array([0.0, 1.0, 0.5, 1.0]), np.array([50.0, 50.0, 0.0, 0.0]))
    assert low.tolist() == [0, pytest.approx(1 - high[0]), 0, 0]
    assert high.tolist() == [pytest.approx(0.0487, abs=1e-3), 1, 1, 1]


def test_jeffreys_covers_about_95_percent_on_average():
    """Exact coverage, averaged over true proportions."""
    n = 40
    low, high = jeffreys(np.arange(n + 1) / n, np.full(n + 1, float(n)))
    true = np.linspace(0.05, 0.95, 181)
    inside = (low <= true[:, None]) & (true[:, None] <= high)
    coverage = (inside * stats.binom(n, true[:, None]).pmf(np.arange(n + 1))).sum(axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.007)


def test_sum_of_symmetric_intervals_is_that_of_independent_errors():
    values, half = np.array([10.0, 20.0]), np.array([3.0, 4.0])
    total = mover_sum(values, values - half, values + half)
    assert (total.value, total.low, total.high) == pytest.approx((30, 25, 35))


def test_share_of_narrow_intervals_has_the_error_of_the_delta_method():
    part, rest = Estimate(60, 59.4, 60.6), Estimate(40, 39.2, 40.8)
    share = mover_share(part, rest)
    half = np.hypot(40 * 0.6, 60 * 0.8) / 100**2
    assert share.value == 0.6
    assert share.low == pytest.approx(0.6 - half, rel=1e-3)
    assert share.high == pytest.approx(0.6 + half, rel=1e-3)


def test_share_covers_for_wide_intervals():
    rng = np.random.default_rng(0)
    x, z = rng.normal(50, 10, 4000), rng.normal(20, 6, 4000)
    shares = [
        mover_share(
            Estimate(a, max(0, a - 19.6), a + 19.6), Estimate(b, max(0, b - 11.76), b + 11.76)
        )
        for a, b in zip(x, np.maximum(z, 0), strict=True)
    ]
    covered = np.mean([share.low <= 5 / 7 <= share.high for share in shares])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(
    ("part", "rest", "expected"),
    [
        ((0, 0, 5), (10, 8, 12), 0),
        ((10, 8, 12), (0, 0, 4), 1),
        ((0, 0, 3), (0, 0, 2), np.nan),
    ],
)
def test_share_of_nothing(part, rest, expected):
    share = mover_share(Estimate(*part), Estimate(*rest))
    assert share.value == pytest.approx(expected, nan_ok=True)
    if expected == 0:
        assert share.low == 0
        assert 0.25 < share.high < 0.5
    if expected == 1:
        assert share.high == 1
        assert 0.6 < share.low < 0.8
