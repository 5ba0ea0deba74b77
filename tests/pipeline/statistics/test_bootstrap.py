"""Bootstrap intervals against theory, a draw by hand, laws, and their coverage."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noctile.pipeline.statistics.bootstrap import MIN_UNITS, bootstrap, mean

NUMBERS = st.lists(st.integers(-1000, 1000), min_size=MIN_UNITS, max_size=30)


def median(sets):
    return np.median(sets, axis=-1)


def coverage(draw, truth: float, n: int, simulations: int) -> float:
    random = np.random.default_rng(5)
    found = [bootstrap(draw(random, n), resamples=400, seed=k) for k in range(simulations)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def test_the_interval_of_a_normal_mean_is_that_of_student():
    values = np.random.default_rng(0).normal(10, 3, 60)
    found = bootstrap(values, resamples=20_000)
    t = stats.ttest_1samp(values, 0).confidence_interval()
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.06)


def test_the_interval_agrees_with_scipy_but_for_the_expansion():
    values = np.random.default_rng(1).gamma(2, size=200)
    found = bootstrap(values, median, resamples=8000)
    tail = stats.norm.cdf(-math.sqrt(200 / 199) * stats.t.ppf(0.975, 199))
    other = stats.bootstrap(
        (values,), median, n_resamples=8000, method="percentile", confidence_level=1 - 2 * tail
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_the_interval_equals_a_loop_over_the_same_draws():
    values = np.arange(12.0) ** 2
    random = np.random.default_rng(3)
    draws = [values[random.integers(0, 12, 12, dtype=np.int32)].mean() for _ in range(300)]
    tail = stats.norm.cdf(-math.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    found = bootstrap(values, resamples=300, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, (tail, 1 - tail))))


def test_clusters_are_drawn_whole():
    """Equal values of a patient say no more than one of them."""
    once = np.random.default_rng(4).normal(size=40)
    twice, patients = np.repeat(once, 3), np.repeat(np.arange(40), 3)
    shuffled = np.random.default_rng(0).permutation(120)
    one, plain = bootstrap(once), bootstrap(twice)
    found = bootstrap(twice[shuffled], clusters=patients[shuffled])
    assert found.high - found.low == pytest.approx(one.high - one.low, rel=0.07)
    assert plain.high - plain.low < 0.7 * (found.high - found.low)


def test_clusters_of_different_sizes_keep_their_values():
    values, patients = np.repeat((1.0, 5, 9), (3, 2, 4)), np.repeat((0, 1, 2), (3, 2, 4))
    seen = set()

    def statistic(sets):
        seen.add(tuple(sets[0]))
        return mean(sets)

    bootstrap(np.append(values, (2, 3)), statistic, 50, clusters=np.append(patients, (3, 4)))
    sizes = {1: 3, 5: 2, 9: 4}
    assert all(drawn.count(value) % size == 0 for drawn in seen for value, size in sizes.items())
    assert len({len(drawn) for drawn in seen}) > 3


def test_few_values_have_no_interval():
    assert math.isnan(bootstrap(np.array([])).value)
    found = bootstrap(np.arange(MIN_UNITS - 1.0))
    assert found.value == 1.5
    assert math.isnan(found.low)
    assert math.isnan(bootstrap(np.arange(9.0), clusters=np.arange(9) % 4).low)
    assert math.isfinite(bootstrap(np.arange(float(MIN_UNITS))).low)


def test_draws_without_the_statistic_are_left_out():
    def where_positive(sets):
        return np.where(sets.mean(axis=-1) > 0, sets.mean(axis=-1), np.nan)

    found = bootstrap(np.array([-1.0, 0, 1, 2, 1, 0]), where_positive)
    assert found.low > 0
    assert math.isnan(bootstrap(np.zeros(6), where_positive).low)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="missing"):
        bootstrap(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="6 values have 7 clusters"):
        bootstrap(np.zeros(6), clusters=np.arange(7))


@given(NUMBERS, st.integers(-10_000, 10_000))
def test_law_a_shift_of_the_values_shifts_the_interval(values, shift):
    plain = bootstrap(np.array(values, float), resamples=50)
    moved = bootstrap(np.array(values, float) + shift, resamples=50)
    expected = np.array([plain.value, plain.low, plain.high]) + shift
    assert [moved.value, moved.low, moved.high] == pytest.approx(expected, abs=1e-6)


@given(NUMBERS)
def test_law_the_interval_lies_within_the_values(values):
    found = bootstrap(np.array(values, float), median, resamples=50)
    assert min(values) <= found.low <= found.high <= max(values)


def test_the_interval_covers_a_normal_mean():
    covered = coverage(lambda random, n: random.normal(2, 1, n), 2, 40, 1000)
    assert covered == pytest.approx(0.95, abs=0.02)  # 3 standard errors of 1000 simulations


def test_the_seed_fixes_the_draws():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values, seed=7) == bootstrap(values, seed=7) != bootstrap(values, seed=8)


def test_memory_is_bounded():
    values = np.random.default_rng(0).normal(size=5000)
    tracemalloc.start()
    bootstrap(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6
