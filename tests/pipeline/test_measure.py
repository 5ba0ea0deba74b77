from pathlib import Path

import numpy as np
import pytest
from standins import tissue_of

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import SlideSummary, TileRow, count_cores, measure
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles

CLASSES = (
    ClassInfo(code=5, name="tumor", color=(220, 30, 30), role="tumor"),
    ClassInfo(code=2, name="stroma", color=(30, 30, 220), role="tissue"),
)
FRAME = Frame(Extent(400, 600), 1.0, 1.01)
TILING = Tiling(mpp=1.0, tile_px=64, overlap_px=16, window="crop", block_px=192, n_classes=2)
PLAN = plan_tiles("s", FRAME, tissue_of(np.ones((60, 80), bool), mpp=8.0), TILING)


def stored(folder: Path, labels: np.ndarray) -> MaskStore:
    layout = MaskLayout(PLAN.frame, PLAN.block_px, PLAN.chunk_px, CLASSES)
    frame = PLAN.frame.coarser(16)
    thumbnail = np.zeros((frame.extent.height, frame.extent.width, 3), np.uint8)
    slide = {"slide": {"mpp": [1.0, 1.01], "bounds_px": [0, 0, 400, 600]}}
    store = MaskStore.create(folder / "mask.ome.zarr", layout, thumbnail, frame, slide)
    for block in PLAN.blocks:
        heat = np.zeros((-(-block.box.height // 8), -(-block.box.width // 8)), np.uint8)
        store.write(block.box, labels[block.box.slices()], heat, heat)
    build_pyramid(store)
    return store


def measured(
    folder: Path, labels: np.ndarray, confidence: int = 204
) -> tuple[SlideSummary, list[TileRow]]:
    """Figures of a slide with these labels and the same confidence (0..255) everywhere."""
    cores = []
    for block in reversed(PLAN.blocks):
        part = labels[block.box.slices()]
        padded = np.pad(part, [(0, -n % 8) for n in part.shape])
        rows, cols = (n // 8 for n in padded.shape)
        analysed = (padded > 0).reshape(rows, 8, cols, 8).sum(axis=(1, 3)).astype(np.uint8)
        confidences = np.full(analysed.shape, confidence, np.uint8)
        cores += count_cores(PLAN, block, [5, 2], part, analysed, confidences)
    return measure(stored(folder, labels), PLAN, CLASSES, cores)


TUMOR_PX = 128**2 + 100**2 + 40**2


def squares() -> np.ndarray:
    """Stroma with a tumor of 128 x 128 px, another of 100 x 100 px, and one of 40 x 40 px."""
    labels = np.full((400, 600), 2, np.uint8)
    labels[:, 500:] = 0
    labels[20:148, 20:148] = labels[200:300, 200:300] = labels[300:340, 400:440] = 5
    return labels


def test_the_pixels_of_the_plan_are_not_square():
    assert isinstance(PLAN, TilePlan)
    assert (PLAN.frame.mpp_y, PLAN.frame.mpp_x) == (1.0, 1.01)


def test_areas_are_pixels_times_both_pixel_sizes(tmp_path):
    summary, _ = measured(tmp_path, squares())
    assert summary.tissue_area_mm2 == pytest.approx(400 * 500 * 1.01e-6, abs=1e-6)
    assert summary.tumor_area_mm2 == pytest.approx(TUMOR_PX * 1.01e-6, abs=1e-6)
    assert summary.class_area_mm2["stroma"] == pytest.approx(
        (400 * 500 - TUMOR_PX) * 1.01e-6, abs=1e-6
    )
    assert summary.tumor_fraction_of_tissue == pytest.approx(TUMOR_PX / 200_000)


def test_tumor_regions_below_0_01_mm2_are_no_foci(tmp_path):
    """The three squares have 0.0165, 0.0101 and 0.0016 mm2."""
    summary, _ = measured(tmp_path, squares())
    assert summary.tumor_foci == 2
    assert summary.largest_focus_mm2 == pytest.approx(128**2 * 1.01e-6, abs=1e-6)


def test_tumor_regions_that_touch_at_a_corner_are_one_focus(tmp_path):
    labels = np.full((400, 600), 2, np.uint8)
    labels[0:128, 0:128] = labels[128:256, 128:256] = 5
    assert measured(tmp_path, labels)[0].tumor_foci == 1


def test_the_mean_confidence_is_that_of_the_tissue(tmp_path):
    summary, rows = measured(tmp_path, squares(), confidence=204)
    assert summary.mean_confidence == 0.8
    assert {row.mean_confidence for row in rows} == {0.8}


def test_a_slide_without_labels_has_areas_of_0_and_no_fractions(tmp_path):
    summary, rows = measured(tmp_path, np.zeros((400, 600), np.uint8))
    assert (summary.tissue_area_mm2, summary.tumor_foci, summary.largest_focus_mm2) == (0, 0, 0)
    assert summary.tumor_fraction_of_tissue is summary.mean_confidence is None
    assert rows == []
    assert summary.tiles == len(PLAN.tiles)


def test_a_row_tells_position_and_content_of_a_core(tmp_path):
    _, rows = measured(tmp_path, squares())
    assert [(row.row, row.col) for row in rows] == sorted((row.row, row.col) for row in rows)
    by_position = {(row.row, row.col): row for row in rows}
    row = by_position[0, 2]  # rows 0..47, columns 96..143, tumor from row 20 on
    assert (row.y_um, row.x_um, row.height_um, row.width_um) == (0, 96.96, 48, 48.48)
    assert row.tissue_fraction == 1
    assert row.class_fractions == pytest.approx((28 / 48, 20 / 48), abs=1e-6)
    row = by_position[8, 10]  # cut to 16 rows; stroma in columns 480..499
    assert (row.y_um, row.height_um) == (384, 16)
    assert row.tissue_fraction == pytest.approx(20 / 48, abs=1e-6)
    assert (0, 11) not in by_position
