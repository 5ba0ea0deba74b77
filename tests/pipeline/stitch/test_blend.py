"""The blend canvas: its weights, and the order of its tiles. The laws test its sums."""

import numpy as np
import pytest

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.stitch.blend import BlendCanvas, blend_weights


def test_weights_are_positive_symmetric_and_largest_in_the_middle():
    weights = blend_weights(64)
    assert weights.shape == (64, 64)
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-6)
    assert weights.max() == weights[31:33, 31:33].max() == pytest.approx(1, abs=0.002)


def test_two_tiles_of_half_a_tile_overlap_have_weights_that_add_up_to_one():
    along = blend_weights(64)[32] / blend_weights(64)[32].max()
    np.testing.assert_allclose(along[:32] + along[32:], 1, atol=0.002)


def test_a_tile_that_comes_too_late_is_refused():
    grid = TileGrid(64, 16, Extent(200, 64))
    canvas = BlendCanvas(Box(0, 0, 200, 64), grid, [1], [], np.ones((200, 64), bool))
    p = np.ones((1, 1, 64, 64), np.float32)
    canvas.add_probabilities([(2, 0)], p)
    with pytest.raises(ValueError, match="labelled"):
        canvas.add_probabilities([(0, 0)], p)
