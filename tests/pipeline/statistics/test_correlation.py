"""Spearman's correlation against scipy, pingouin, and the coverage of its interval."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noctile.pipeline.statistics.correlation import MIN_PAIRS, mean_ranks, spearman


def pairs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x, (x + random.normal(size=n)).round(1)


def test_rho_and_p_agree_with_scipy():
    x, y = pairs(40)
    found, other = spearman(x, y), stats.spearmanr(x, y)
    assert found.n == 40
    assert found.rho.value == pytest.approx(other.statistic)
    assert found.p == pytest.approx(other.pvalue)


def test_rho_and_p_agree_with_pingouin_and_permutations():
    import pingouin

    x, y = pairs(15, 3)
    found, table = spearman(x, y), pingouin.corr(x, y, method="spearman")
    other = table.rename(columns={"p-val": "p_val"}).iloc[0]
    assert (found.rho.value, found.p) == pytest.approx((other["r"], other["p_val"]))
    random, rank = np.random.default_rng(0), stats.rankdata(x)
    drawn = [np.corrcoef(random.permutation(rank), stats.rankdata(y))[0, 1] for _ in range(3000)]
    assert found.p == pytest.approx(np.mean(np.abs(drawn) >= abs(found.rho.value)), abs=0.02)


def test_the_interval_follows_bonett_and_wright():
    x, y = pairs(50)
    found = spearman(x, y).rho
    se = math.sqrt((1 + found.value**2 / 2) / 47)
    ends = np.arctanh([found.low, found.high])
    assert ends.mean() == pytest.approx(math.atanh(found.value))
    assert np.diff(ends) == pytest.approx(2 * 1.959963984540054 * se)


def test_the_interval_covers_rho():
    """Normal values with correlation r have rho = 6 / pi asin(r / 2)."""
    random, truth = np.random.default_rng(1), 6 / math.pi * math.asin(0.6 / 2)
    x = random.normal(size=(1000, 40))
    y = 0.6 * x + 0.8 * random.normal(size=(1000, 40))
    found = [spearman(a, b).rho for a, b in zip(x, y, strict=True)]
    assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_the_null_is_rejected_at_its_nominal_rate():
    random = np.random.default_rng(2)
    p = [spearman(*random.exponential(size=(2, 20))).p for _ in range(500)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_perfect_order_has_no_interval():
    x = np.arange(12.0)
    found = spearman(x, -(x**3))
    assert (found.rho.value, found.p, math.isnan(found.rho.low)) == (-1, 0, True)


def test_few_patients_and_constants_have_no_correlation():
    x = np.arange(float(MIN_PAIRS))
    assert spearman(x, x) is not None
    assert spearman(x[1:], x[1:]) is None
    assert spearman(x, np.ones(MIN_PAIRS)) is None


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="missing"):
        spearman(np.array([1, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="expected 2 values"):
        spearman(np.ones(2), np.ones(3))


def test_tied_values_have_their_mean_rank():
    values = np.random.default_rng(0).integers(0, 5, 30).astype(float)
    assert mean_ranks(values).tolist() == pd.Series(values).rank().tolist()
