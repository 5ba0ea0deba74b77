"""Holm's correction against statsmodels, a hand computation, and its laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from noctile.pipeline.statistics.multiplicity import holm

P_VALUES = st.lists(st.floats(0, 1), max_size=20)


def test_four_tests_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])


@pytest.mark.parametrize("n", [1, 4, 20])
def test_it_agrees_with_statsmodels(n):
    p = np.random.default_rng(n).random(n).round(1) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(P_VALUES)
def test_law_corrected_values_are_larger_and_keep_their_order(p):
    corrected, p = holm(p), np.array(p)
    assert ((corrected >= p) & (corrected <= 1)).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


@given(P_VALUES, st.randoms())
def test_law_the_order_of_the_tests_does_not_matter(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[k] for k in order]).tolist() == [holm(p)[k] for k in order]


def test_no_test_needs_no_correction():
    assert holm([]).tolist() == []
    assert holm([0.2]).tolist() == [0.2]


@pytest.mark.parametrize("p", [[0.1, np.nan], [-0.1], [1.1]])
def test_no_p_value_is_missing_or_outside(p):
    with pytest.raises(ValueError, match=r"missing|outside"):
        holm(p)
