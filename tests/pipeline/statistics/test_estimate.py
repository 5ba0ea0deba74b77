"""One class for every figure with an interval; missing values are refused."""

import math

import numpy as np
import pytest

from noctile.pipeline import agreement
from noctile.pipeline.metrics import intervals
from noctile.pipeline.statistics.estimate import Estimate, finite


def test_agreement_and_metrics_have_the_same_estimates():
    assert agreement.Estimate is intervals.Estimate is Estimate


def test_a_figure_may_have_no_interval():
    found = Estimate(3)
    assert (found.value, math.isnan(found.low), math.isnan(found.high)) == (3, True, True)


def test_values_become_an_array():
    found = finite([1, 2])
    assert (found.dtype, found.tolist()) == (np.float64, [1, 2])
    assert len(finite([])) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_missing_values_are_refused_and_counted(value):
    with pytest.raises(ValueError, match="2 of 3 values are missing"):
        finite([value, 1, value])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected 3 values, got 2"):
        finite([1, 2], 3)
    with pytest.raises(ValueError, match="one value for each patient"):
        finite(np.zeros((2, 2)))
