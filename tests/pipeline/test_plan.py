"""Plans by hand; what holds for every plan is in tests/laws."""

import numpy as np
import pytest
from standins import tissue_of

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.plan import Block, TileGrid, TilePlan, Tiling, heat_slice, plan_tiles

NATIVE = Frame(Extent(400, 600), 1.0, 1.0)
TILING = Tiling(
    mpp=1.0, tile_px=64, overlap_px=16, window="crop", block_px=200, n_classes=3
)  # blocks of 4 cores of 48 px


def planned(mask: np.ndarray, tiling: Tiling = TILING) -> TilePlan:
    """The plan of a slide whose tissue mask has pixels of 8 um."""
    return plan_tiles("s", NATIVE, tissue_of(mask), tiling)


def one_spot() -> np.ndarray:
    """A tissue mask with a single pixel, over the pixels 200..207, 400..407."""
    mask = np.zeros((50, 75), bool)
    mask[25, 50] = True
    return mask


class TestGrid:
    def test_a_tile_is_its_core_and_a_margin(self):
        grid = TileGrid(64, 16, Extent(100, 200))
        assert grid.core(1, 2) == Box(48, 96, 48, 48)
        assert grid.tile(1, 2) == Box(40, 88, 64, 64)
        assert grid.tile(0, 0) == Box(-8, -8, 64, 64)
        assert grid.shape == (3, 5)

    def test_a_tile_has_weight_on_its_core_or_with_blend_everywhere(self):
        grid = TileGrid(64, 16, Extent(100, 200))
        assert grid.reach(1, 2, "crop") == grid.core(1, 2)
        assert grid.reach(1, 2, "blend") == grid.tile(1, 2)

    @pytest.mark.parametrize(("tile_px", "overlap_px"), [(64, 64), (64, -2), (64, 15), (64, 4)])
    def test_an_overlap_that_does_not_fit_the_tile_is_refused(self, tile_px, overlap_px):
        with pytest.raises(UsageError, match=f"overlap_px is {overlap_px}.*choose 8"):
            TileGrid(tile_px, overlap_px, Extent(100, 100))


class TestPlan:
    def test_only_the_block_and_the_tile_with_tissue_are_planned(self):
        plan = planned(one_spot())
        assert plan.blocks == (Block(1, 2, Box(192, 384, 192, 192), ((4, 8),)),)
        assert plan.tiles == ((4, 8),)
        assert plan.predictions == 1
        assert plan.block((1, 2)).key == (1, 2)
        with pytest.raises(KeyError):
            plan.block((0, 0))

    def test_with_blend_all_tiles_that_reach_the_tissue_are_planned(self):
        plan = planned(one_spot(), Tiling(1.0, 64, 32, "blend", 200, 3))
        assert plan.block_px == 192
        assert plan.tiles == ((5, 12), (5, 13), (6, 12), (6, 13))
        for tile in plan.tiles:
            assert plan.grid.tile(*tile).intersect(Box(200, 400, 8, 8)).area

    def test_a_slide_without_tissue_has_no_block(self):
        plan = planned(np.zeros((50, 75), bool))
        assert plan.blocks == plan.tiles == ()
        assert plan.disk_bytes == 0

    def test_a_block_has_the_nearest_whole_number_of_cores(self):
        everywhere = np.ones((50, 75), bool)
        for wanted, side in ((1, 48), (70, 48), (73, 96), (200, 192)):
            tiling = Tiling(1.0, 64, 16, "crop", wanted, 3)
            assert planned(everywhere, tiling).block_px == side

    def test_the_chunk_divides_the_block_and_is_at_most_1024(self):
        for block_px, chunk_px in ((192, 192), (1024, 1024), (4224, 704)):
            plan = TilePlan(
                "s", 1.0, NATIVE, TileGrid(64, 16, NATIVE.extent), "crop", block_px, 3, ()
            )
            assert plan.chunk_px == chunk_px

    def test_the_fingerprint_changes_with_the_plan(self):
        one, other = planned(one_spot()), planned(np.ones((50, 75), bool))
        assert one.fingerprint == planned(one_spot()).fingerprint
        assert one.fingerprint != other.fingerprint

    def test_a_batch_and_the_sums_of_blend_cost_memory(self):
        crop = planned(one_spot())
        blend = planned(one_spot(), Tiling(1.0, 64, 16, "blend", 200, 3))
        tile_bytes = 64 * 64 * (3 + 3 * 4 * 3)
        assert crop.peak_bytes(5) - crop.peak_bytes(1) == 4 * tile_bytes
        assert blend.peak_bytes(1) - crop.peak_bytes(1) == 4 * (3 + 1) * 64 * 192


def test_heat_map_pixels_under_label_map_pixels():
    assert heat_slice(slice(16, 40)) == slice(2, 5)
    assert heat_slice(slice(16, 41)) == slice(2, 6)
