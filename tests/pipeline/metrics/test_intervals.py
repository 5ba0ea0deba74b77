"""Bootstrap intervals against the binomial distribution and sets of known spread."""

import numpy as np
import pytest
from metric_inputs import classes, counts
from scipy.stats import binom

from noctile.pipeline.metrics.intervals import bootstrap
from noctile.pipeline.metrics.measurement import Measurement


class TestIntervals:
    def test_each_draw_is_as_many_whole_units(self) -> None:
        units = np.zeros((4, 3, 3), np.int64)
        units[np.arange(4), [0, 1, 2, 2], [0, 1, 2, 0]] = 1000
        drawn = bootstrap(units, resamples=50)
        assert drawn.shape == (50, 3, 3)
        assert (drawn.sum(axis=(1, 2)) == 4000).all()
        assert (drawn % 1000 == 0).all()
        assert len({draw.tobytes() for draw in drawn}) > 10
        assert np.array_equal(drawn, bootstrap(units, resamples=50))
        assert not np.array_equal(drawn, bootstrap(units, resamples=50, seed=1))

    def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(self) -> None:
        right, wrong = [[1, 0], [0, 0]], [[0, 1], [0, 0]]
        scores = [counts(right if k < 30 else wrong, f"r{k}", f"p{k}") for k in range(50)]
        found = Measurement(classes("tumor", "tissue"), tuple(scores)).estimates.accuracy
        assert found.value == pytest.approx(0.6)
        assert (found.low, found.high) == pytest.approx(
            binom.ppf((0.025, 0.975), 50, 0.6) / 50, abs=0.021
        )

    def test_equal_patients_have_an_interval_of_width_0(self) -> None:
        scores = tuple(counts([[7, 3], [1, 9]], name, name) for name in "abcd")
        found = Measurement(classes("tumor", "tissue"), scores).estimates.of_class("precision", 0)
        assert found.low == found.high == pytest.approx(found.value) == pytest.approx(7 / 8)

    def test_draws_without_a_class_are_left_out_of_its_interval(self) -> None:
        rare, none = [[4, 6], [0, 10]], [[0, 0], [0, 10]]
        scores = tuple(counts(rare if k == 0 else none, f"r{k}", f"p{k}") for k in range(6))
        found = Measurement(classes("tumor", "tissue"), scores).estimates.of_class("recall", 0)
        assert found.low == found.high == pytest.approx(0.4)
