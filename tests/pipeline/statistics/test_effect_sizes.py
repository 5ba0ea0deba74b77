"""Effect sizes against brute force, pingouin, textbook formulas and laws."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noctile.pipeline.statistics.effect_sizes import cliffs_delta, epsilon_squared

VALUES = st.lists(st.integers(-5, 5), min_size=2, max_size=15)


def by_matrix(a, b) -> tuple[float, float, float]:
    """Delta and interval from the whole dominance matrix, after Feng and Cliff (2004)."""
    signs = np.sign(np.subtract.outer(a, b)).astype(float)
    (n, m), d = signs.shape, signs.mean()
    rows, columns = signs.mean(axis=1), signs.mean(axis=0)
    variance = m**2 * ((rows - d) ** 2).sum() + n**2 * ((columns - d) ** 2).sum()
    variance = (variance - ((signs - d) ** 2).sum()) / (n * m * (n - 1) * (m - 1))
    s = math.sqrt(max(variance, (1 - d**2) / (n * m - 1)))
    z = 1.959963984540054
    root = z * s * math.sqrt((1 - d**2) ** 2 + z**2 * s**2)
    return d, *((d - d**3 + sign * root) / (1 - d**2 + z**2 * s**2) for sign in (-1, 1))


@given(VALUES, VALUES)
def test_delta_agrees_with_the_dominance_matrix(a, b):
    found = cliffs_delta(np.array(a, float), np.array(b, float))
    signs = np.sign(np.subtract.outer(a, b))
    assert found.value == pytest.approx(signs.mean(), abs=1e-12)
    if abs(found.value) < 1:
        _, low, high = by_matrix(a, b)
        assert (found.low, found.high) == pytest.approx((max(-1, low), min(1, high)), abs=1e-9)


def test_delta_is_twice_the_common_language_effect_less_one():
    import pingouin

    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, 30), random.integers(2, 12, 25)
    other = pingouin.compute_effsize(a, b, eftype="CLES")
    assert cliffs_delta(a.astype(float), b.astype(float)).value == pytest.approx(2 * other - 1)


@given(VALUES, VALUES)
def test_law_delta_is_antisymmetric(a, b):
    one = cliffs_delta(np.array(a, float), np.array(b, float))
    other = cliffs_delta(np.array(b, float), np.array(a, float))
    expected = (-one.value, -one.high, -one.low)
    assert (other.value, other.low, other.high) == pytest.approx(expected, abs=1e-9)


@given(VALUES, VALUES)
def test_law_delta_lies_in_its_interval(a, b):
    found = cliffs_delta(np.array(a, float), np.array(b, float))
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_without_overlap_delta_is_1_with_an_interval():
    """Cliff's rule: 20 of 20 leaves a share of 16.16 / 23.84."""
    found = cliffs_delta(np.arange(100.0, 120), np.arange(30.0))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx((20 - 3.8415) / (20 + 3.8415), abs=1e-4)
    assert cliffs_delta(np.arange(3.0), np.arange(5.0, 9)).low == -1


def test_small_groups_have_no_interval():
    assert math.isnan(cliffs_delta(np.array([]), np.ones(3)).value)
    assert math.isnan(cliffs_delta(np.ones(1), np.zeros(3)).low)
    with pytest.raises(ValueError, match="missing"):
        cliffs_delta(np.array([1, np.nan]), np.zeros(3))


def test_the_interval_of_delta_covers_it():
    """Normal values 0.8 sd apart have a delta of 2 Phi(0.8 / sqrt(2)) - 1."""
    random, truth = np.random.default_rng(0), 2 * stats.norm.cdf(0.8 / math.sqrt(2)) - 1
    found = [cliffs_delta(random.normal(0.8, 1, 25), random.normal(0, 1, 20)) for _ in range(1000)]
    assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_delta_of_many_values_is_fast():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 20_000))
    start = time.process_time()
    cliffs_delta(a, b)
    assert time.process_time() - start < 0.5


def test_epsilon_squared_is_the_explained_share_of_the_ranks():
    random = np.random.default_rng(0)
    parts = [random.integers(0, 20, n) + shift for n, shift in ((12, 0), (15, 4), (20, 7))]
    ranks = np.split(stats.rankdata(np.concatenate(parts)), (12, 27))
    together = np.concatenate(ranks)
    within = sum(((part - part.mean()) ** 2).sum() for part in ranks)
    share = 1 - within / ((together - together.mean()) ** 2).sum()
    found = epsilon_squared(stats.kruskal(*parts).statistic, 47, 3)
    assert found.value == pytest.approx(share)
    f = share / (1 - share) * 44 / 2
    for end, tail in ((found.low, 0.025), (found.high, 0.975)):
        chance = stats.ncf.sf(f, 2, 44, 47 * end / (1 - end))
        assert chance == pytest.approx(tail, abs=1e-4)


@given(st.floats(0, 1), st.integers(10, 500), st.integers(2, 6))
def test_law_epsilon_squared_lies_in_its_interval(share, n, groups):
    found = epsilon_squared(share * (n - 1), n, groups)
    assert 0 <= found.value <= 1
    if share <= 0.9999:
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_small_h_has_an_interval_from_0():
    assert epsilon_squared(0, 30, 3).low == 0
    assert epsilon_squared(2, 30, 3).low == 0
    assert epsilon_squared(20, 30, 3).low > 0.3


def test_groups_that_are_tied_and_apart_have_no_interval():
    parts = [np.full(6, k) for k in range(3)]
    found = epsilon_squared(stats.kruskal(*parts).statistic, 18, 3)
    assert found.value == pytest.approx(1)
    assert math.isnan(found.low)
