"""The interface of predictors: labels by way of probabilities, and the check of tiles.

The contract of every predictor stands in tests/contracts/test_predictor.py.
"""

import numpy as np
import pytest
from standins import ConstantNet, card

from noctile.pipeline.models.pixel_labels import PixelLabels
from noctile.pipeline.models.predictor import LabelPredictor, check_tiles, predict_labels


def test_a_model_without_predict_labels_is_called_for_probabilities():
    net = ConstantNet(card(), [0.2, 0.5, 0.3])
    assert not isinstance(net, LabelPredictor)
    labels = predict_labels(net, np.zeros((2, 64, 64, 3), np.uint8), slice(8, 57))
    assert labels.label.shape == (2, 49, 49)
    assert (labels.label == 1).all()
    assert (labels.confidence == 128).all()  # 127.5, rounded to even


def test_a_model_with_predict_labels_is_called_for_labels():
    expected = PixelLabels(1, 2, 3)

    class Fast(ConstantNet):
        def predict_labels(self, tiles, part):
            return expected

    net = Fast(card(), [0.2, 0.5, 0.3])
    assert predict_labels(net, np.zeros((1, 64, 64, 3), np.uint8), slice(None)) is expected


@pytest.mark.parametrize("shape", [(1, 64, 64, 4), (1, 32, 64, 3), (0, 64, 64, 3), (64, 64, 3)])
def test_tiles_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"takes uint8 \[n, 64, 64, 3\] .*, not uint8 \["):
        check_tiles(np.zeros(shape, np.uint8), card())


def test_tiles_of_the_card_are_accepted():
    check_tiles(np.zeros((1, 64, 64, 3), np.uint8), card())
