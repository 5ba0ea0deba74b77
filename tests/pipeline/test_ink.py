import numpy as np
import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.ink import find_ink
from noctile.pipeline.optical_density import density_table

FRAME = Frame(Extent(300, 400), 8.0, 8.0)
GLASS = 243
TABLE = density_table(np.full(3, GLASS, np.float32))
BLACK, BLUE, PURPLE = (40, 40, 46), (40, 60, 170), (120, 70, 150)


def drawn(rows: slice, cols: slice, colour: tuple[int, int, int]) -> np.ndarray:
    pixels = np.full((300, 400, 3), GLASS, np.uint8)
    pixels[rows, cols] = colour
    return pixels


@pytest.mark.parametrize("colour", [BLACK, BLUE])
def test_a_stroke_is_found_with_a_fringe_of_one_pixel_and_is_a_pen(colour):
    ink, pen = find_ink(drawn(slice(50, 250), slice(100, 140), colour), TABLE, FRAME)
    assert pen
    assert ink[49:251, 102:138].all()  # the corners are rounded
    assert not ink[:49].any()
    assert not ink[:, :99].any()


def test_stained_tissue_is_no_ink():
    ink, pen = find_ink(drawn(slice(50, 250), slice(100, 140), PURPLE), TABLE, FRAME)
    assert not ink.any()
    assert not pen


def test_a_black_border_is_left_out_without_being_a_pen():
    ink, pen = find_ink(drawn(slice(None), slice(0, 40), BLACK), TABLE, FRAME)
    assert ink[3:-3, 3:40].all()
    assert not pen


@pytest.mark.parametrize(("side_px", "found", "pen"), [(5, False, False), (12, True, False)])
def test_a_speck_is_no_pen_and_a_smaller_one_no_ink(side_px, found, pen):
    """The sides are 40 and 96 um."""
    speck = slice(100, 100 + side_px)
    ink, has_pen = find_ink(drawn(speck, speck, BLACK), TABLE, FRAME)
    assert (ink.any(), has_pen) == (found, pen)
