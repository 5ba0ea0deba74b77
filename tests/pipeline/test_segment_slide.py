"""A whole slide, segmented into arrays in memory."""

import numpy as np
import pytest
from standins import ArraySlide, PositionNet, TornSlide, card, tissue_of

from noctile.pipeline.errors import UnreadableTissueError
from noctile.pipeline.geometry import Box
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.segment import segment_block
from noctile.pipeline.segment_slide import segment_slide
from noctile.pipeline.slide_plan import SlidePlan

TILING = Tiling(mpp=1.0, tile_px=64, overlap_px=16, window="crop", block_px=96, n_classes=3)
PIXELS = np.random.default_rng(0).integers(0, 255, (203, 301, 3), dtype=np.uint8)


def planned(reader: ArraySlide) -> SlidePlan:
    tissue = tissue_of(np.ones((26, 38), bool))
    tissue.mask[10:16] = False
    tiles = plan_tiles("array", reader.info.frame, tissue, TILING)
    return SlidePlan(tiles, tissue, None, PIXELS, reader.info.frame)


@pytest.fixture(autouse=True)
def _rgb(monkeypatch):
    monkeypatch.setattr(ArraySlide, "flags", (), raising=False)


def test_arrays_are_the_blocks_side_by_side():
    reader, model = ArraySlide(PIXELS), card()
    plan = planned(reader)
    found = segment_slide(reader, plan, PositionNet(model), 4)
    assert found.labels.shape == (203, 301)
    assert found.tumor_probability.shape == found.confidence.shape == (26, 38)
    assert len(plan.tiles.blocks) > 4
    for block in plan.tiles.blocks:
        mask = segment_block(reader, plan.tiles, block, plan.tissue, PositionNet(model), 4)
        ys, xs = block.box.slices()
        assert np.array_equal(found.labels[ys, xs], mask.labels)
        heat = found.tumor_probability[ys.start // 8 :, xs.start // 8 :]
        assert np.array_equal(heat[: mask.heat.shape[0], : mask.heat.shape[1]], mask.heat)


def test_areas_are_counted_on_the_labels():
    reader, model = ArraySlide(PIXELS), card()
    found = segment_slide(reader, planned(reader), PositionNet(model), 4)
    assert list(found.classes) == [1, 3, 5]
    for code, info in found.classes.items():
        px = int((found.labels == code).sum())
        assert found.area_mm2[info.name] == pytest.approx(px * found.frame.pixel_area_mm2, abs=1e-6)


def test_a_slide_without_tissue_has_no_label():
    reader = ArraySlide(PIXELS)
    tissue = tissue_of(np.zeros((26, 38), bool))
    tiles = plan_tiles("array", reader.info.frame, tissue, TILING)
    plan = SlidePlan(tiles, tissue, None, PIXELS, reader.info.frame)
    found = segment_slide(reader, plan, PositionNet(card()), 4)
    assert not found.labels.any()
    assert set(found.area_mm2.values()) == {0.0}


def test_too_much_unreadable_tissue_is_an_error():
    reader = TornSlide(PIXELS, Box(0, 0, 100, 301))
    with pytest.raises(UnreadableTissueError, match=r"slide array: .* cannot be decoded"):
        segment_slide(reader, planned(reader), PositionNet(card()), 4)
