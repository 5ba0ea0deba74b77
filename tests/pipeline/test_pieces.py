import numpy as np
import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.pieces import close_gaps, without_small


def test_a_gap_of_twice_the_radius_is_closed_and_a_wider_one_is_not():
    for gap, closed in ((4, True), (5, False)):
        mask = np.ones((30, 30), bool)
        mask[:, 10 : 10 + gap] = False
        assert close_gaps(mask, 2).all() == closed


def test_closing_adds_nothing_at_the_edge_of_the_mask():
    mask = np.zeros((30, 30), bool)
    mask[10:20, 27:] = True
    assert (close_gaps(mask, 3) == mask).all()


def test_a_radius_below_one_pixel_changes_nothing():
    mask = np.random.default_rng(0).random((20, 20)) < 0.5
    assert close_gaps(mask, 0) is mask


@pytest.mark.parametrize(("mpp_y", "kept"), [(10.0, 3), (5.0, 1)])
def test_pieces_below_an_area_are_removed(mpp_y, kept):
    """The pieces have 4, 6 and 8 pixels; the smallest kept area is that of 4 square pixels."""
    mask = np.zeros((12, 12), bool)
    mask[0:2, 0:2] = mask[4:6, 0:3] = mask[8:10, 0:4] = True
    left = without_small(mask, 4 * 100e-6, Frame(Extent(12, 12), mpp_y, 10.0))
    assert left[:, 0].sum() == 2 * kept
    assert not (left & ~mask).any()


def test_pieces_that_touch_at_a_corner_are_two():
    mask = np.array([[1, 0], [0, 1]], bool)
    assert not without_small(mask, 2e-6, Frame(Extent(2, 2), 1.0, 1.0)).any()
