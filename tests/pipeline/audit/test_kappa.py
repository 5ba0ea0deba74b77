import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa as reference

from noctile.pipeline.audit.kappa import cohens_kappa
from noctile.pipeline.audit.sample import UNREADABLE, UNSURE

TABLE = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
"""Fleiss, Cohen and Everitt 1969, table 1: 200 patients, two judges."""


def readers(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.nonzero(table)
    times = table[first, second]
    return np.repeat(first, times), np.repeat(second, times)


def test_published_example_of_fleiss_cohen_and_everitt():
    found = cohens_kappa(*readers(TABLE), 3)
    assert found.points == 200
    assert found.agreement == pytest.approx(0.70)
    assert found.kappa.value == pytest.approx(0.429, abs=5e-4)
    error = (found.kappa.high - found.kappa.low) / 2 / 1.959964
    assert error**2 == pytest.approx(0.002885, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_kappa_and_interval_agree_with_statsmodels(seed):
    table = np.random.default_rng(seed).integers(1, 60, (4, 4))
    found, expected = cohens_kappa(*readers(table), 4), reference(table)
    assert found.kappa.value == pytest.approx(expected.kappa)
    assert found.kappa.low == pytest.approx(expected.kappa_low)
    assert found.kappa.high == pytest.approx(expected.kappa_upp)


def test_interval_agrees_with_the_bootstrap():
    first, second = readers(TABLE)
    found = cohens_kappa(first, second, 3)
    rng = np.random.default_rng(1)
    again = [
        cohens_kappa(first[rows], second[rows], 3).kappa.value
        for rows in rng.integers(0, 200, (1500, 200))
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    assert (found.kappa.low, found.kappa.high) == pytest.approx((low, high), abs=0.02)


def test_only_points_that_both_answered_with_a_class_count():
    first = np.array([0, 1, UNSURE, 0, 1, 1])
    second = np.array([0, 1, 0, UNREADABLE, 0, 1])
    found = cohens_kappa(first, second, 2)
    assert found.points == 4
    assert found.kappa.value == pytest.approx(0.5)
    assert cohens_kappa(np.array([UNSURE]), np.array([1]), 2) is None


def test_equal_weights_change_nothing_and_others_widen_the_interval():
    first, second = readers(TABLE)
    plain = cohens_kappa(first, second, 3)
    same = cohens_kappa(first, second, 3, np.full(200, 7.5))
    assert same.kappa.low == pytest.approx(plain.kappa.low)
    weights = np.where(np.random.default_rng(0).random(200) < 0.5, 1.0, 9.0)
    uneven = cohens_kappa(first, second, 3, weights)
    assert uneven.kappa.high - uneven.kappa.low > plain.kappa.high - plain.kappa.low


def test_perfect_agreement_and_one_class_only():
    answers = np.array([0, 1, 2, 1, 0])
    found = cohens_kappa(answers, answers, 3).kappa
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert np.isnan(cohens_kappa(np.zeros(9, int), np.zeros(9, int), 3).kappa.value)
