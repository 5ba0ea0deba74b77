"""Calibration against a hand example and models of known confidence."""

import math

import numpy as np
import pytest
from metric_inputs import pixels, region
from standins import ConstantNet, card

from noctile.pipeline.metrics.calibration import N_BINS, calibration_from_bins
from noctile.pipeline.metrics.region_counts import count_region
from noctile.pipeline.truth.scheme import IGNORED


class TestCalibration:
    def test_a_hand_example(self) -> None:
        bins = np.zeros((N_BINS, 3))
        bins[10], bins[14] = (100, 70, 50), (300, 294, 300)
        found = calibration_from_bins(bins)
        assert found.ece == pytest.approx(0.25 * 0.2 + 0.75 * 0.02)
        assert (found.confidence[10], found.accuracy[10]) == pytest.approx((0.7, 0.5))
        assert math.isnan(found.accuracy[3])

    def test_the_error_of_a_constant_confidence_is_its_distance_from_the_accuracy(
        self,
    ) -> None:
        model = card(classes=3)
        known = pixels(100, 70, 3)
        found, _ = count_region(
            region(), known, ConstantNet(model, [0.2, 0.7, 0.1]), range(3), 3, 4
        )
        right = (known.targets == 1).sum() / (known.targets != IGNORED).sum()
        assert np.flatnonzero(found.bins[:, 0]).tolist() == [10]
        assert calibration_from_bins(found.bins).ece == pytest.approx(0.7 - right, abs=1e-6)

    def test_full_confidence_is_in_the_last_bin(self) -> None:
        found, _ = count_region(
            region(), pixels(64, 64, 2), ConstantNet(card(classes=2), [1, 0]), range(2), 2, 4
        )
        assert np.flatnonzero(found.bins[:, 0]).tolist() == [N_BINS - 1]
