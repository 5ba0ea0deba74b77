"""Tissue masks: the pixels of other frames under them, and the area that confines them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.tissue_mask import TissueMask


@given(st.data())
def test_a_pixel_is_tissue_if_its_centre_is(data):
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < 0.5
    tissue = TissueMask(
        mask,
        Frame(Extent(*shape), *data.draw(st.tuples(st.floats(1, 16), st.floats(1, 16)))),
        "",
        (),
    )
    frame = Frame(Extent(200, 200), *data.draw(st.tuples(st.floats(0.5, 8), st.floats(0.5, 8))))
    box = Box(
        *(data.draw(st.integers(-30, 60)) for _ in "yx"),
        *(data.draw(st.integers(0, 30)) for _ in "hw"),
    )
    expected = np.zeros((box.height, box.width), bool)
    for i in range(box.height):
        for j in range(box.width):
            y = int(np.floor((box.y + i + 0.5) * (frame.mpp_y / tissue.frame.mpp_y)))
            x = int(np.floor((box.x + j + 0.5) * (frame.mpp_x / tissue.frame.mpp_x)))
            expected[i, j] = 0 <= y < shape[0] and 0 <= x < shape[1] and mask[y, x]
    np.testing.assert_array_equal(tissue.on(box, frame), expected)
    inner = box.grow(-min(3, box.height // 2, box.width // 2))
    np.testing.assert_array_equal(tissue.on(inner, frame), expected[inner.slices(box)])


def test_an_empty_mask_has_no_width():
    assert TissueMask(np.zeros((5, 5), bool), Frame(Extent(5, 5), 8, 8), "", ()).width_mm == 0


class LeftOf:
    """Area left of a line."""

    def __init__(self, x_um: float) -> None:
        self._x_um = x_um

    def inside(self, box: Box, frame: Frame) -> np.ndarray:
        x_um = (np.arange(box.x, box.x_stop) + 0.5) * frame.mpp_x
        return np.tile(x_um < self._x_um, (box.height, 1))


def test_an_area_confines_the_pixels_under_the_mask_and_its_area():
    tissue = TissueMask(np.ones((4, 4), bool), Frame(Extent(4, 4), 8, 8), "", (), LeftOf(12))
    fine = Frame(Extent(16, 16), 2, 2)
    assert (tissue.on(fine.box, fine) == (np.arange(16) < 6)).all()
    assert tissue.area_mm2 == 4 * 64 / 1e6  # the centre of the second column lies on the line
