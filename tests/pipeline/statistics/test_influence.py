"""Leave-one-out figures against loops, and the order of patients to look at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.statistics.effect_sizes import cliffs_delta
from noctile.pipeline.statistics.influence import (
    deltas_without,
    leave_one_out,
    means_without,
    medians_without,
    ranked,
)

VALUES = st.lists(st.integers(-9, 9), min_size=2, max_size=20).map(lambda v: np.array(v, float))


def test_each_patient_is_left_out_once():
    seen = []
    found = leave_one_out(lambda kept: seen.append(kept.tolist()) or kept.sum(), 4)
    assert seen == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert found.tolist() == [6, 5, 4, 3]


def test_the_time_may_be_limited_to_some_patients():
    found = leave_one_out(lambda kept: kept.sum(), 4, only=np.array([2]))
    assert found[2] == 4
    assert np.isnan(found[[0, 1, 3]]).all()


@given(VALUES)
def test_means_and_medians_equal_a_loop(values):
    loop = leave_one_out(lambda kept: values[kept].mean(), len(values))
    assert means_without(values) == pytest.approx(loop)
    loop = leave_one_out(lambda kept: np.median(values[kept]), len(values))
    assert medians_without(values) == pytest.approx(loop)


@given(VALUES, VALUES)
def test_deltas_equal_a_loop(a, b):
    of_a, of_b = deltas_without(a, b)
    loop = leave_one_out(lambda kept: cliffs_delta(a[kept], b).value, len(a))
    assert of_a == pytest.approx(loop, abs=1e-12)
    loop = leave_one_out(lambda kept: cliffs_delta(a, b[kept]).value, len(b))
    assert of_b == pytest.approx(loop, abs=1e-12)


def test_a_single_value_leaves_nothing():
    assert np.isnan(means_without(np.ones(1))).all()
    assert np.isnan(medians_without(np.ones(1))).all()
    assert len(medians_without(np.array([]))) == 0


def test_influence_times_doubt_orders_the_patients():
    influence = np.array([0.5, -0.4, 0.1, 0.9, 0.0, -0.2])
    doubt = np.array([0.1, 0.5, 1.0, 0.0, 1.0, 0.0])
    assert ranked(influence, doubt).tolist() == [1, 2, 0, 3, 5, 4]


def test_a_patient_without_whom_there_is_no_result_comes_first():
    assert ranked(np.array([1.0, math.nan, 2]), np.array([1.0, 0.1, 1])).tolist() == [1, 2, 0]
    assert ranked(np.array([1.0, math.nan]), np.array([0.0, 0])).tolist() == [1, 0]


@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from((0, 0.25, 1))), max_size=15))
def test_law_the_order_is_complete_and_descending(patients):
    influence, doubt = (np.array(column, float) for column in np.reshape(patients, (-1, 2)).T)
    order = ranked(influence, doubt)
    assert sorted(order.tolist()) == list(range(len(patients)))
    assert (np.diff((np.abs(influence) * doubt)[order]) <= 0).all()


def test_a_doubt_is_a_share():
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        ranked(np.ones(2), np.array([0, 1.5]))
    with pytest.raises(ValueError, match="expected 1 values"):
        ranked(np.ones(1), np.ones(2))
