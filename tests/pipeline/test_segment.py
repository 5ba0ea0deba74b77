"""Reading the tiles of a block. The laws test `segment_block` as a whole."""

import numpy as np
import standins

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.segment import read_tiles


def plan_of(overlap_px: int):
    tissue = standins.tissue_of(np.ones((38, 38), bool))
    tiling = Tiling(1.0, 64, overlap_px, "crop", 4096, 3)
    return plan_tiles("s", Frame(Extent(300, 300), 1.0, 1.0), tissue, tiling)


def test_each_tile_comes_with_its_own_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    slide, plan = standins.ArraySlide(pixels), plan_of(16)
    tiles = plan.blocks[0].tiles
    found = list(read_tiles(slide, plan, tiles))
    assert [position for position, _ in found] == list(tiles)
    for position, tile in found:
        np.testing.assert_array_equal(tile, slide.read(plan.grid.tile(*position), 1.0))


def test_unreadable_tiles_are_reported_and_left_out():
    slide = standins.TornSlide(np.zeros((300, 300, 3), np.uint8), Box(160, 160, 4, 4))
    plan, unread = plan_of(16), []
    tiles = plan.blocks[0].tiles
    found = [position for position, _ in read_tiles(slide, plan, tiles, unread.append)]
    assert unread == [(3, 3)]
    assert sorted([*found, *unread]) == list(tiles)
