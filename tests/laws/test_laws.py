"""The laws of plan and canvas. Each law names the defect, seen in other tools, that it excludes."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import standins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models import pixel_labels
from noctile.pipeline.plan import TileGrid, TilePlan, Tiling, plan_tiles
from noctile.pipeline.segment import segment_block
from noctile.pipeline.stitch import blend
from noctile.pipeline.stitch import block as block_module
from noctile.pipeline.stitch.blend import BlendCanvas, blend_weights

windows = st.sampled_from(["crop", "blend"])
# tile and overlap with a stride that is a multiple of 8
grids = st.sampled_from([(64, 0), (64, 16), (64, 32), (64, 48), (32, 8), (96, 40), (32, 24)])


@pytest.fixture(scope="module", autouse=True)
def _torch_stays_torch() -> Iterator[None]:
    """Torch arrays stay torch arrays, so that the lines for a GPU run on the CPU as well."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (blend, block_module, pixel_labels):
            patch.setattr(module, "is_host", lambda values: isinstance(values, np.ndarray))
        yield


@st.composite
def cases(draw: st.DrawFn, largest: int = 220):
    """(native frame, tissue, tiling) with random tissue, at any ratio of pixel sizes."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    native = Frame(Extent(height, width), 1.0, draw(st.sampled_from([1.0, 1.01, 1.3])))
    tile_px, overlap_px = draw(grids)
    block_px = draw(st.sampled_from([16, 64, 128, 400]))
    tissue_mpp = draw(st.sampled_from([8.0, 5.0, 2.5]))
    shape = native.at(tissue_mpp).extent
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.02, 0.3, 1.0]))
    mask = np.random.default_rng(seed).random((shape.height, shape.width)) < share
    frame = native.at(tissue_mpp)
    tissue = standins.TissueMask(mask, frame, "test", ())
    return native, tissue, Tiling(1.0, tile_px, overlap_px, draw(windows), block_px, 3)


class TestLaw1:
    """Blocks tile the frame; each tissue pixel lies in a tile. (off by one at the right edge)"""

    @given(cases())
    def test_no_pixel_has_two_blocks_and_every_tissue_pixel_has_one(self, case):
        native, tissue, tiling = case
        plan = plan_tiles("s", native, tissue, tiling)
        owners = np.zeros((plan.frame.extent.height, plan.frame.extent.width), int)
        for block in plan.blocks:
            assert plan.frame.box.contains(block.box)
            owners[block.box.slices()] += 1
        assert owners.max(initial=0) <= 1
        assert (owners[tissue.on(plan.frame.box, plan.frame)] == 1).all()

    @given(cases())
    def test_with_tissue_everywhere_the_blocks_are_the_frame(self, case):
        native, tissue, tiling = case
        tissue = standins.TissueMask(np.ones_like(tissue.mask), tissue.frame, "test", ())
        plan = plan_tiles("s", native, tissue, tiling)
        assert sum(block.box.area for block in plan.blocks) == plan.frame.extent.area

    @given(cases())
    def test_every_tissue_pixel_of_a_block_lies_in_the_reach_of_its_tiles(self, case):
        native, tissue, tiling = case
        plan = plan_tiles("s", native, tissue, tiling)
        for block in plan.blocks:
            covered = np.zeros((block.box.height, block.box.width), bool)
            for tile in block.tiles:
                covered[
                    plan.grid.reach(*tile, plan.window).intersect(block.box).slices(block.box)
                ] = True
            assert covered[tissue.on(block.box, plan.frame)].all()

    @given(cases())
    def test_no_block_and_no_tile_is_without_tissue(self, case):
        native, tissue, tiling = case
        plan = plan_tiles("s", native, tissue, tiling)
        for block in plan.blocks:
            assert block.tiles == tuple(sorted(block.tiles))
            for tile in block.tiles:
                reach = plan.grid.reach(*tile, plan.window).intersect(block.box)
                if tissue.frame.mpp >= 2 * plan.frame.mpp:
                    assert tissue.on(reach, plan.frame).any()

    @given(cases())
    def test_with_crop_no_tile_is_predicted_twice(self, case):
        native, tissue, tiling = case
        plan = plan_tiles("s", native, tissue, Tiling(**{**_fields(tiling), "window": "crop"}))
        assert plan.predictions == len(plan.tiles)

    @given(cases())
    def test_a_plan_survives_json(self, case):
        native, tissue, tiling = case
        plan = plan_tiles("s", native, tissue, tiling)
        again = TilePlan.from_json(plan.to_json())
        assert again == plan
        assert again.fingerprint == plan.fingerprint


class TestLaw2:
    """A constant prediction joins to that constant. (weights divided by tile counts)"""

    @given(cases(), st.sampled_from([np, torch]))
    def test_constant_in_constant_out(self, case, namespace):
        native, tissue, tiling = case
        net = standins.ConstantNet(
            standins.card(tiling.tile_px, tiling.overlap_px), [0.2, 0.5, 0.3], namespace
        )
        plan = plan_tiles("s", native, tissue, tiling)
        slide = standins.ArraySlide(
            np.zeros((plan.frame.extent.height, plan.frame.extent.width, 3), np.uint8)
        )
        for block in plan.blocks:
            mask = segment_block(slide, plan, block, tissue, net, 4)
            inside = tissue.on(block.box, plan.frame)
            assert (mask.labels[inside] == 3).all()
            assert (mask.labels[~inside] == 0).all()
            assert set(np.unique(mask.heat)) <= {0, 51}  # 0.2 x 255
            assert set(np.unique(mask.confidence)) <= {0, 127, 128}  # 0.5 x 255
            assert mask.heat.max() == 51

    @given(grids)
    def test_sums_divided_by_weights_are_the_constant_to_a_millionth(self, grid):
        weights = blend_weights(grid[0])
        step = grid[0] - grid[1]
        sums, totals = np.zeros((2, 500, 500), np.float32)
        for y in range(0, 500 - grid[0], step):
            for x in range(0, 500 - grid[0], step):
                sums[y : y + grid[0], x : x + grid[0]] += weights * np.float32(0.731)
                totals[y : y + grid[0], x : x + grid[0]] += weights
        assert np.abs(sums[totals > 0] / totals[totals > 0] - 0.731).max() < 1e-6


class TestLaw3:
    """Joining by blocks equals joining the whole, bit for bit. (seams)"""

    @settings(max_examples=40)
    @given(cases(largest=200), st.sampled_from([np, torch]), st.integers(1, 5))
    def test_any_block_size_gives_the_same_labels(self, case, namespace, batch_size):
        native, tissue, tiling = case
        net = standins.PositionNet(standins.card(tiling.tile_px, tiling.overlap_px), namespace)
        shape = native.at(1.0).extent
        pixels = np.random.default_rng(0).integers(0, 256, (shape.height, shape.width, 3), np.uint8)
        small, whole = (
            _segment(
                pixels,
                native,
                tissue,
                Tiling(**{**_fields(tiling), "block_px": px}),
                net,
                batch_size,
            )
            for px in (tiling.block_px, 10_000)
        )
        for a, b in zip(small, whole, strict=True):
            np.testing.assert_array_equal(a, b)

    @settings(max_examples=20)
    @given(cases(largest=150))
    def test_torch_and_numpy_join_alike(self, case):
        native, tissue, tiling = case
        shape = native.at(1.0).extent
        pixels = np.random.default_rng(1).integers(0, 256, (shape.height, shape.width, 3), np.uint8)
        model = standins.card(tiling.tile_px, tiling.overlap_px)
        a, b = (
            _segment(pixels, native, tissue, tiling, standins.PositionNet(model, xp), 3)
            for xp in (np, torch)
        )
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_against_a_plain_sum_over_the_whole_plane(self):
        """Compare the canvas with its definition, computed without it."""
        rng = np.random.default_rng(3)
        grid, codes = TileGrid(64, 16, Extent(130, 170)), [1, 3, 5]
        weights = blend_weights(grid.tile_px)
        sums, totals = np.zeros((3, 300, 300)), np.zeros((300, 300))
        canvas = BlendCanvas(Box(0, 0, 130, 170), grid, codes, [0], np.ones((130, 170), bool))
        for row in range(grid.shape[0]):
            for col in range(grid.shape[1]):
                p = rng.random((3, 64, 64)).astype(np.float32)
                p /= p.sum(axis=0)
                canvas.add_probabilities([(row, col)], p[None])
                here = grid.tile(row, col).shift(50, 50).slices()
                sums[(slice(None), *here)] += weights * p
                totals[here] += weights
        mask = canvas.finish()
        mean = (sums / np.maximum(totals, 1e-9))[:, 50:180, 50:220]
        np.testing.assert_array_equal(mask.labels, np.asarray(codes)[mean.argmax(axis=0)])
        cells = np.add.reduceat(
            np.add.reduceat(mean[0], range(0, 130, 8), axis=0), range(0, 170, 8), axis=1
        )
        counts = np.add.reduceat(
            np.add.reduceat(np.ones((130, 170)), range(0, 130, 8), axis=0), range(0, 170, 8), axis=1
        )
        assert np.abs(mask.heat - 255 * cells / counts).max() <= 1.0


class TestSeams:
    """Compare the counts along seams with their definition, computed without them."""

    @settings(max_examples=30)
    @given(cases(largest=200), st.sampled_from([np, torch]), st.integers(1, 5))
    def test_the_pixels_behind_each_edge_that_two_tiles_of_the_block_label_differently(
        self, case, namespace, batch
    ):
        native, tissue, tiling = case
        net = standins.PositionNet(standins.card(tiling.tile_px, tiling.overlap_px), namespace)
        plan = plan_tiles("s", native, tissue, tiling)
        shape = (plan.frame.extent.height, plan.frame.extent.width, 3)
        slide = standins.ArraySlide(np.random.default_rng(2).integers(0, 256, shape, np.uint8))
        for block in plan.blocks:
            stats = segment_block(slide, plan, block, tissue, net, batch).stats
            inside = tissue.on(block.box, plan.frame)
            assert (stats.seam_px, stats.seam_differing_px) == _seams(
                slide, plan, block, inside, net
            )
            assert stats.analysed_px == inside.sum()

    def test_equal_labels_do_not_differ(self):
        net = standins.ConstantNet(standins.card(), [0.2, 0.5, 0.3])
        tissue = standins.tissue_of(np.ones((38, 38), bool))
        plan = plan_tiles(
            "s", Frame(Extent(300, 300), 1.0, 1.0), tissue, Tiling(1.0, 64, 16, "crop", 4096, 3)
        )
        slide = standins.ArraySlide(np.zeros((300, 300, 3), np.uint8))
        stats = segment_block(slide, plan, plan.blocks[0], tissue, net, 4).stats
        assert (stats.seam_px, stats.seam_differing_px) == (
            2 * 6 * 19,
            0,
        )  # 6 edges of 300 px each way


class TestUnread:
    """The core of an unreadable tile has no label; all other labels stay the same."""

    @settings(max_examples=30)
    @given(cases(largest=200), st.integers(1, 5), st.data())
    def test_only_the_cores_of_unread_tiles_lose_their_labels(self, case, batch_size, data):
        native, tissue, tiling = case
        tiling = Tiling(**{**_fields(tiling), "window": "crop"})
        net = standins.PositionNet(standins.card(tiling.tile_px, tiling.overlap_px))
        plan = plan_tiles("s", native, tissue, tiling)
        height, width = plan.frame.extent.height, plan.frame.extent.width
        pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        hole = Box(data.draw(st.integers(0, height)), data.draw(st.integers(0, width)), 20, 30)
        sound, torn = standins.ArraySlide(pixels), standins.TornSlide(pixels, hole)
        for block in plan.blocks:
            whole, rest = (
                segment_block(slide, plan, block, tissue, net, batch_size)
                for slide in (sound, torn)
            )
            unread = [tile for tile in block.tiles if plan.grid.tile(*tile).intersect(hole).area]
            kept = np.ones(whole.labels.shape, bool)
            for tile in unread:
                kept[plan.grid.core(*tile).intersect(block.box).slices(block.box)] = False
            np.testing.assert_array_equal(rest.labels, whole.labels * kept)
            assert rest.stats.unread == tuple(unread)
            assert rest.stats.unread_px == np.count_nonzero(whole.labels[~kept])
            assert rest.stats.analysed_px == np.count_nonzero(rest.labels)
            cells = np.add.reduceat(
                np.add.reduceat(kept, range(0, kept.shape[0], 8), axis=0),
                range(0, kept.shape[1], 8),
                axis=1,
            )
            assert not rest.confidence[cells == 0].any()

    def test_with_blend_the_core_is_lost_too_and_its_neighbours_are_joined_without_it(self):
        net = standins.ConstantNet(standins.card(), [0.2, 0.5, 0.3])
        tissue = standins.tissue_of(np.ones((38, 38), bool))
        plan = plan_tiles(
            "s", Frame(Extent(300, 300), 1.0, 1.0), tissue, Tiling(1.0, 64, 16, "blend", 150, 3)
        )
        slide = standins.TornSlide(
            np.zeros((300, 300, 3), np.uint8), Box(160, 160, 4, 4)
        )  # in the middle of (3, 3)
        labels = np.zeros((300, 300), np.uint8)
        unread = []
        for block in plan.blocks:
            mask = segment_block(slide, plan, block, tissue, net, 4)
            labels[block.box.slices()] = mask.labels
            unread += mask.stats.unread
        expected = np.full((300, 300), 3, np.uint8)
        expected[plan.grid.core(3, 3).slices()] = 0
        np.testing.assert_array_equal(labels, expected)
        assert unread == [(3, 3)]  # once, though the blocks around reach for it too

    def test_a_block_that_cannot_be_read_at_all_has_no_label(self):
        net = standins.PositionNet(standins.card())
        tissue = standins.tissue_of(np.ones((38, 38), bool))
        plan = plan_tiles(
            "s", Frame(Extent(300, 300), 1.0, 1.0), tissue, Tiling(1.0, 64, 16, "crop", 150, 3)
        )
        slide = standins.TornSlide(np.zeros((300, 300, 3), np.uint8), Box(0, 0, 300, 300))
        mask = segment_block(slide, plan, plan.blocks[0], tissue, net, 4)
        assert not any(array.any() for array in (mask.labels, mask.heat, mask.confidence))
        assert mask.stats.unread == plan.blocks[0].tiles
        assert (mask.stats.analysed_px, mask.stats.unread_px) == (0, plan.blocks[0].box.area)
        assert net.batches == []

    def test_a_readable_strip_is_read_once_and_another_tile_by_tile(self):
        tissue = standins.tissue_of(np.ones((38, 38), bool))
        plan = plan_tiles(
            "s", Frame(Extent(300, 300), 1.0, 1.0), tissue, Tiling(1.0, 64, 16, "crop", 4096, 3)
        )
        slide = standins.TornSlide(np.zeros((300, 300, 3), np.uint8), Box(160, 160, 4, 4))
        segment_block(slide, plan, plan.blocks[0], tissue, standins.PositionNet(standins.card()), 4)
        assert len(slide.reads) == 7 + 7


class TestLaw7:
    """Batches are a function of the plan, never of arrival. (a network differs in the last bits)"""

    def test_batches_are_sorted_and_full_except_for_the_last_of_a_block(self):
        native = Frame(Extent(300, 300), 1.0, 1.0)
        tissue = standins.tissue_of(np.ones((38, 38), bool))
        plan = plan_tiles("s", native, tissue, Tiling(1.0, 64, 16, "crop", 150, 3))
        for _ in range(2):
            net = standins.PositionNet(standins.card())
            slide = standins.ArraySlide(np.zeros((300, 300, 3), np.uint8))
            sizes = []
            for block in plan.blocks:
                segment_block(slide, plan, block, tissue, net, 4)
                full, rest = divmod(len(block.tiles), 4)
                sizes += [4] * full + [rest] * bool(rest)
            assert net.batches == sizes


class TestMemory:
    """No task needs more memory than its plan says. (``blend`` once needed half as much again)"""

    @pytest.mark.parametrize(
        ("window", "overlap_px"), [("crop", 0), ("crop", 64), ("blend", 64), ("blend", 104)]
    )
    def test_a_block_full_of_tissue_needs_no_more_than_the_plan_says(self, window, overlap_px):
        tissue = standins.tissue_of(np.ones((200, 200), bool))
        native = Frame(Extent(1600, 1600), 1.0, 1.0)
        tiling = Tiling(1.0, 256, overlap_px, window, 1536, 21)
        plan = plan_tiles("s", native, tissue, tiling)
        net = standins.ConstantNet(standins.card(256, overlap_px, 21), [1 / 21] * 21)
        slide = standins.ArraySlide(np.zeros((1600, 1600, 3), np.uint8))
        block = max(plan.blocks, key=lambda b: len(b.tiles))
        tracemalloc.start()
        segment_block(slide, plan, block, tissue, net, 2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < plan.peak_bytes(2)


def _seams(slide, plan, block, inside, net) -> tuple[int, int]:
    """Seam pixels of a block, and those that differ."""
    said = {
        tile: np.asarray(net(slide.read(plan.grid.tile(*tile), 1.0)[None]))[0].argmax(axis=0)
        for tile in block.tiles
    }
    margin, side, asked, differing = plan.grid.margin_px, plan.grid.stride_px, 0, 0
    for row, col in block.tiles:
        core = plan.grid.core(row, col)
        for k in range(0, side, 16):
            for dy, dx, y, x in (
                (1, 0, 0, k),
                (0, 1, k, 0),
            ):  # the tile before, and the place behind the edge
                before, here = (
                    said.get((row - dy, col - dx)),
                    (core.y + y - block.box.y, core.x + x - block.box.x),
                )
                if before is None or margin == 0 or min(here) < 0:
                    continue
                if here[0] < block.box.height and here[1] < block.box.width and inside[here]:
                    asked += 1
                    there = margin + y + dy * side, margin + x + dx * side
                    differing += before[there] != said[row, col][margin + y, margin + x]
    return asked, differing


def _fields(tiling: Tiling) -> dict:
    return {name: getattr(tiling, name) for name in Tiling.__slots__}


def _segment(pixels, native, tissue, tiling, net, batch_size):
    """(labels, heat, confidence) of a whole slide."""
    plan = plan_tiles("s", native, tissue, tiling)
    slide = standins.ArraySlide(pixels)
    slide.info = slide.info.__class__(
        **{n: getattr(slide.info, n) for n in slide.info.__slots__} | {"frame": plan.frame}
    )
    height, width = plan.frame.extent.height, plan.frame.extent.width
    labels = np.zeros((height, width), np.uint8)
    heat, confidence = (np.zeros((-(-height // 8), -(-width // 8)), np.uint8) for _ in range(2))
    for block in plan.blocks:
        mask = segment_block(slide, plan, block, tissue, net, batch_size)
        labels[block.box.slices()] = mask.labels
        y, x = block.box.y // 8, block.box.x // 8
        for whole, part in ((heat, mask.heat), (confidence, mask.confidence)):
            whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return labels, heat, confidence
