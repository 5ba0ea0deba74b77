"""Influence of single patients, against the same test repeated without each of them."""

import numpy as np
import pytest
from scipy import stats

from noctile.pipeline.statistics.without_each import compare_without_each, correlate_without_each


def drawn(n: int, digits: int, names: str) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(n + digits)
    return np.round(random.normal(size=n), digits), [
        names[k] for k in random.integers(0, len(names), n)
    ]


@pytest.mark.parametrize(("n", "digits"), [(60, 1), (60, 9), (14, 9), (14, 0)])
def test_two_groups(n, digits):
    values, groups = drawn(n, digits, "ab")
    found = compare_without_each(values, groups)
    of = np.array(groups)
    for k in range(n):
        kept = np.arange(n) != k
        expected = stats.mannwhitneyu(values[kept & (of == "a")], values[kept & (of == "b")])
        cells = (kept & (of == "a")).sum() * (kept & (of == "b")).sum()
        assert found.p[k] == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.effect[k] == pytest.approx(2 * expected.statistic / cells - 1)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_three_groups(digits):
    values, groups = drawn(50, digits, "abc")
    found = compare_without_each(values, groups)
    of = np.array(groups)
    for k in range(50):
        kept = np.arange(50) != k
        expected = stats.kruskal(*[values[kept & (of == name)] for name in "abc"])
        assert found.p[k] == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.effect[k] == pytest.approx(expected.statistic / 48)


@pytest.mark.parametrize("digits", [1, 9])
def test_correlation(digits):
    random = np.random.default_rng(digits)
    x = np.round(random.normal(size=40), digits)
    y = np.round(x + random.normal(size=40), digits)
    found = correlate_without_each(x, y)
    for k in range(40):
        kept = np.arange(40) != k
        expected = stats.spearmanr(x[kept], y[kept])
        assert found.effect[k] == pytest.approx(expected.statistic)
        assert found.p[k] == pytest.approx(expected.pvalue, rel=1e-9)


def test_equal_values_have_no_influence():
    found = compare_without_each(np.ones(20), ["a"] * 10 + ["b"] * 10)
    assert (found.p == 1).all()
    assert (found.effect == 0).all()
    assert np.isnan(correlate_without_each(np.ones(9), np.arange(9.0)).effect).all()
