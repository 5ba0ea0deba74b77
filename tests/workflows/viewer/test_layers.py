import pytest

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.workflows.viewer.layers import Layer, NoTileError


def layer(height: int, width: int) -> Layer:
    return Layer.of(Frame(Extent(height, width), 0.5, 0.25))


@pytest.mark.parametrize(("side", "levels"), [(1, 1), (512, 1), (513, 2), (1024, 2), (100_000, 9)])
def test_the_coarsest_level_is_one_tile(side, levels):
    assert layer(7, side).levels == levels
    assert layer(7, side).level(levels - 1).extent.width <= 512


def test_a_level_has_the_size_that_the_browser_expects():
    assert layer(1001, 1301).level(1).extent == Extent(501, 651)


def test_tiles_are_cut_to_their_level():
    assert layer(1001, 1301).box(0, 1, 2) == Box(512, 1024, 489, 277)
    assert layer(1001, 1301).box(1, 0, 1) == Box(0, 512, 501, 139)


@pytest.mark.parametrize(
    "tile", [(3, 0, 0), (-1, 0, 0), (0, 2, 0), (0, 0, 3), (0, -1, 0), (10**9, 0, 0), (0, 10**9, 0)]
)
def test_other_tiles_are_refused(tile):
    with pytest.raises(NoTileError):
        layer(1001, 1301).box(*tile)


def test_the_description_has_size_and_pixel_size():
    assert layer(1001, 1301).to_json() == {
        "width": 1301,
        "height": 1001,
        "mpp_x": 0.25,
        "mpp_y": 0.5,
        "tile_px": 512,
        "levels": 3,
    }
