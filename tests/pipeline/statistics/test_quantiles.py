"""Quantiles, t intervals and Welch's comparison against scipy."""

import numpy as np
import pytest
from scipy import stats

from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE, t_interval, t_quantile, welch


def test_quantile_of_t():
    assert t_quantile(7) == pytest.approx(stats.t.ppf(0.975, 7))


def test_quantile_of_the_normal_distribution():
    assert pytest.approx(stats.norm.ppf(0.975)) == NORMAL_QUANTILE


def test_t_interval_is_that_of_one_sample():
    values = np.array([1.0, 4, 2, 8, 5])
    found = t_interval(values.mean(), stats.sem(values), 4)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_welch_is_that_of_two_samples():
    a, b = np.array([1.0, 4, 2, 8, 5]), np.array([9.0, 7, 30, 12])
    variances = a.var(ddof=1) / 5, b.var(ddof=1) / 4
    found, df, p = welch(a.mean() - b.mean(), variances, (4, 3))
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval()
    assert (df, p) == pytest.approx((expected.df, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
