"""Comparisons of groups against pingouin, permutations, and the nominal rate of errors."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noctile.pipeline.statistics.effect_sizes import cliffs_delta
from noctile.pipeline.statistics.groups import (
    CLIFFS_DELTA,
    EPSILON_SQUARED,
    KRUSKAL_WALLIS,
    MANN_WHITNEY,
    MIN_GROUP,
    compare,
    kruskal_wallis,
    mann_whitney,
)
from noctile.pipeline.statistics.multiplicity import holm


def named(*parts) -> tuple[np.ndarray, list[str]]:
    return np.concatenate(parts).astype(float), [
        name for name, part in zip("abcdef", parts, strict=False) for _ in part
    ]


def underscored(frame: pd.DataFrame) -> pd.DataFrame:
    """Table of pingouin with underscores in the names of columns, as in newer releases."""
    return frame.rename(columns=lambda name: name.replace("-", "_"))


def distance_of_ranks(a, b, axis):
    """Distance of the sum of ranks of the first group from its expectation."""
    n, m = a.shape[axis], b.shape[axis]
    ranks = stats.rankdata(np.concatenate((a, b), axis), axis=axis)
    return np.abs(ranks[..., :n].sum(axis) - n * (n + m + 1) / 2)


class TestTwoGroups:
    def test_small_groups_are_tested_by_all_permutations(self) -> None:
        a, b = np.array([1.0, 7, 8, 9.5, 12]), np.array([0.5, 2, 3, 4, 6, 7.5])
        u, p = mann_whitney(a, b)
        assert u == sum(x > y for x in a for y in b)
        every = np.concatenate((a, b))
        us = []
        for chosen in combinations(range(11), 5):
            rest = np.delete(every, chosen)
            us.append(sum(x > y for x in every[list(chosen)] for y in rest))
        assert p == pytest.approx(np.mean(np.abs(np.array(us) - 15) >= abs(u - 15)))

    def test_ties_agree_with_pingouin_and_with_permutations(self) -> None:
        random = np.random.default_rng(0)
        a, b = random.integers(0, 8, 30), random.integers(1, 10, 24)
        found = compare(*named(a, b))
        import pingouin

        other = underscored(pingouin.mwu(a, b)).iloc[0]
        assert (found.test, found.statistic) == (MANN_WHITNEY, other["U_val"])
        assert found.p == pytest.approx(other["p_val"])
        drawn = stats.permutation_test(
            (a, b),
            distance_of_ranks,
            vectorized=True,
            n_resamples=4000,
            alternative="greater",
            random_state=np.random.default_rng(1),
        )
        assert found.p == pytest.approx(drawn.pvalue, abs=0.012)

    def test_the_effect_is_delta_of_the_first_group(self) -> None:
        random = np.random.default_rng(0)
        low, high = random.normal(size=12), random.normal(1, 1, size=9)
        found = compare(*named(high, low))
        (effect,) = found.effects
        assert (effect.name, effect.a, effect.b) == (CLIFFS_DELTA, "a", "b")
        assert effect.estimate == cliffs_delta(high, low)
        assert effect.estimate.value > 0
        assert effect.estimate.value == pytest.approx(2 * found.statistic / (12 * 9) - 1)
        assert effect.p == effect.p_holm == found.p

    def test_equal_values_tell_no_difference(self) -> None:
        found = compare(*named(np.ones(6), np.ones(7)))
        assert (found.p, found.effects[0].estimate.value) == (1, 0)

    def test_the_null_is_rejected_at_its_nominal_rate(self) -> None:
        random = np.random.default_rng(0)
        p = [mann_whitney(random.normal(size=20), random.normal(size=20))[1] for _ in range(500)]
        assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


class TestMoreGroups:
    def parts(self, seed: int = 0) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        return [random.integers(0, 12, n) + k for k, n in enumerate((14, 20, 11))]

    def test_the_test_agrees_with_pingouin(self) -> None:
        import pingouin

        values, names = named(*self.parts())
        found = compare(values, names)
        frame = pd.DataFrame({"value": values, "group": names})
        other = underscored(pingouin.kruskal(frame, "value", "group")).iloc[0]
        assert (found.test, found.statistic) == (KRUSKAL_WALLIS, pytest.approx(other["H"]))
        assert found.p == pytest.approx(other["p_unc"])
        assert found.sizes == (("a", 14), ("b", 20), ("c", 11))

    def test_each_pair_has_a_test_corrected_by_holm(self) -> None:
        import pingouin

        values, names = named(*self.parts())
        whole, *pairs = compare(values, names).effects
        frame = pd.DataFrame({"value": values, "group": names})
        others = pingouin.pairwise_tests(
            frame, "value", between="group", parametric=False, padjust="holm"
        )
        others = underscored(others)
        assert whole.name == EPSILON_SQUARED
        assert [(pair.a, pair.b) for pair in pairs] == list(
            zip(others["A"], others["B"], strict=True)
        )
        assert [pair.p for pair in pairs] == pytest.approx(others["p_unc"].to_list())
        assert [pair.p_holm for pair in pairs] == pytest.approx(others["p_corr"].to_list())
        assert [pair.p_holm for pair in pairs] == holm([pair.p for pair in pairs]).tolist()

    def test_equal_values_tell_no_difference(self) -> None:
        found = compare(*named(np.ones(6), np.ones(7), np.ones(8)))
        assert (found.statistic, found.p, found.effects[0].estimate.value) == (0, 1, 0)

    def test_the_null_is_rejected_at_its_nominal_rate(self) -> None:
        random = np.random.default_rng(2)
        p = [kruskal_wallis(list(random.exponential(size=(3, 15))))[1] for _ in range(500)]
        assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_small_groups_are_left_out_and_named():
    small = np.arange(MIN_GROUP - 1)
    found = compare(*named(np.arange(6), small, np.arange(8)))
    assert found.test == MANN_WHITNEY
    assert found.sizes == (("a", 6), ("c", 8))
    assert found.left_out == (("b", MIN_GROUP - 1),)
    assert compare(*named(np.arange(9), small)) is None
    assert compare(*named(np.arange(9))) is None
    assert compare(np.array([]), []) is None


def test_the_order_of_the_patients_does_not_matter():
    values, names = named(np.arange(6), np.arange(9) + 2, np.arange(7) / 2)
    order = np.random.default_rng(0).permutation(len(values))
    assert compare(values[order], [names[k] for k in order]) == compare(values, names)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="missing"):
        compare(np.array([1, np.nan]), ["a", "b"])
    with pytest.raises(ValueError, match="expected 3 values"):
        compare(np.zeros(2), ["a", "b", "b"])
