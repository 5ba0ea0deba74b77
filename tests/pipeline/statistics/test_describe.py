"""Description of a group against the standard library."""

import math
import statistics

import numpy as np
import pytest

from noctile.pipeline.statistics.bootstrap import bootstrap
from noctile.pipeline.statistics.describe import describe


def test_position_and_spread():
    values = np.random.default_rng(0).lognormal(size=25)
    found = describe(values)
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    assert (found.q1, found.median, found.q3) == pytest.approx(quartiles)
    assert found.n == 25
    assert found.mean == bootstrap(values)
    assert found.mean.value == pytest.approx(statistics.fmean(values))


def test_an_empty_group_has_no_figures():
    found = describe(np.array([]))
    assert found.n == 0
    assert all(map(math.isnan, (found.median, found.q1, found.q3, found.mean.value)))


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="1 of 2 values are missing"):
        describe(np.array([1, np.nan]))
