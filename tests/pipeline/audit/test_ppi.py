"""Prediction-powered inference against the formulas of PPI++, and against simulation."""

import numpy as np
import pytest
from scipy import optimize, stats

from benchmarks.audit import Cell, score_annotated
from noctile.pipeline.audit.ppi import joined_mean, powered_difference, powered_mean


def patients(n: int, annotated: int, seed: int = 0, noise: float = 0.3) -> tuple:
    rng = np.random.default_rng(seed)
    truth = rng.normal(2, 1, n)
    predicted = 0.5 + 0.8 * truth + rng.normal(0, noise, n)
    truth[annotated:] = np.nan
    return predicted, truth


def test_mean_and_tuning_are_those_of_ppi_plus_plus():
    """The tuning of Angelopoulos, Duchi and Zrnic 2023 minimises the variance; found by search."""
    predicted, truth = patients(500, 60)
    y, f, others = truth[:60], predicted[:60], predicted[60:]

    def variance(tuning: float) -> float:
        labelled = np.cov(y - tuning * f, ddof=1) / 60
        return float(labelled + tuning**2 * np.var(f, ddof=1) / 440)

    best = optimize.minimize_scalar(variance).x
    found = powered_mean(predicted, truth)
    assert found.tuning == pytest.approx(best, rel=1e-6)
    expected = (y - best * f).mean() + best * others.mean()
    assert found.mean.value == pytest.approx(expected)
    assert found.standard_error == pytest.approx(np.sqrt(variance(best)), rel=0.1)
    assert found.standard_error < found.annotated_mean.high - found.annotated_mean.value


def test_mean_equals_the_prediction_of_a_regression_at_the_mean_of_all():
    predicted, truth = patients(80, 12)
    line = stats.linregress(predicted[:12], truth[:12])
    found = powered_mean(predicted, truth)
    assert found.mean.value == pytest.approx(line.intercept + line.slope * predicted.mean())
    assert found.df == 10


def test_right_predictions_leave_only_the_spread_of_the_patients():
    truth = np.random.default_rng(3).normal(5, 1, 200)
    annotated = np.where(np.arange(200) < 10, truth, np.nan)
    found = powered_mean(truth, annotated)
    assert found.mean.value == pytest.approx(truth.mean())
    assert found.standard_error == pytest.approx(truth.std(ddof=1) / np.sqrt(200))


def test_useless_predictions_leave_the_mean_of_the_annotated():
    _, truth = patients(50, 10)
    found = powered_mean(np.full(50, 3.0), truth)
    plain = stats.ttest_1samp(truth[:10], 0).confidence_interval()
    assert found.tuning == 0
    assert (found.mean.low, found.mean.high) == pytest.approx((plain.low, plain.high))


def test_all_annotated_is_the_plain_mean():
    predicted, truth = patients(15, 15)
    found = powered_mean(predicted, truth)
    assert found.mean == found.annotated_mean
    assert found.mean.value == pytest.approx(truth.mean())


def test_too_few_annotations_give_nothing():
    predicted, truth = patients(50, 3)
    assert powered_mean(predicted, truth) is None
    half = np.arange(50) % 2 == 0
    assert powered_difference(*patients(50, 6), half, ~half) is None


def test_difference_of_wholly_annotated_groups_is_welchs_test():
    predicted, truth = patients(30, 30)
    first = np.arange(30) < 11
    found = powered_difference(predicted, truth, first, ~first)
    expected = stats.ttest_ind(truth[first], truth[~first], equal_var=False)
    interval = expected.confidence_interval()
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (interval.low, interval.high)
    )


def test_groups_without_spread_have_a_difference_and_no_p():
    groups = np.arange(20) < 10
    found = powered_difference(groups * 1.0, groups * 2.0, groups, ~groups)
    assert found.difference.value == 2
    assert np.isnan(found.p)


def test_truth_that_does_not_vary_gives_no_interval():
    """Four annotated patients without the class do not show that no patient has it."""
    predicted, truth = np.random.default_rng(1).random(30), np.full(30, np.nan)
    truth[:4] = 0
    found = powered_mean(predicted, truth)
    assert (found.mean.value, found.annotated_mean.value, found.tuning) == (0, 0, 0)
    assert np.isnan([found.mean.low, found.annotated_mean.high]).all()
    truth[15:25] = predicted[15:25]
    groups = np.arange(30) < 15
    difference = powered_difference(predicted, truth, groups, ~groups)
    assert np.isnan([difference.p, difference.difference.low]).all()
    joined = joined_mean([difference.first, difference.second])
    assert joined.mean.value == pytest.approx(difference.second.mean.value / 2)
    assert np.isnan(joined.mean.low)


def test_groups_join_to_a_stratified_mean_also_if_their_parts_differ():
    """Most of a small group with a high mean is annotated; the truth of all is 0.28."""
    random, means, covered = np.random.default_rng(5), [], 0
    for _ in range(300):
        groups = np.repeat([0, 1], [80, 20])
        true = random.normal(0.2 + 0.4 * groups, 0.05)
        predicted = 0.1 + 0.7 * true + random.normal(0, 0.02, 100)
        truth = np.full(100, np.nan)
        truth[:8], truth[80:95] = true[:8], true[80:95]
        parts = [powered_mean(predicted[groups == g], truth[groups == g]) for g in (0, 1)]
        found = joined_mean(parts)
        means.append(found.mean.value)
        covered += found.mean.low <= 0.28 <= found.mean.high
    assert (found.patients, found.annotated) == (100, 23)
    assert np.mean(means) == pytest.approx(0.28, abs=0.002)
    limits = stats.binom(300, 0.95).ppf([1e-4, 1 - 1e-4]) / 300
    assert limits[0] <= covered / 300 <= limits[1]
    assert joined_mean(parts[:1]).mean.low == pytest.approx(parts[0].mean.low)


def test_intervals_cover_and_the_null_is_rejected_as_often_as_it_should():
    powered, alone, rejected = score_annotated(Cell((0.85,), 0.93, 0.1, 120, 300), 20, 250)
    limits = stats.binom(250, 0.95).ppf([1e-4, 1 - 1e-4]) / 250
    assert limits[0] <= powered.coverage <= limits[1]
    assert limits[0] <= alone.coverage <= limits[1]
    assert powered.half_width < alone.half_width
    assert rejected <= stats.binom(250, 0.05).ppf(1 - 1e-4) / 250
