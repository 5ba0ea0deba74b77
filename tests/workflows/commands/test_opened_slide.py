"""Result of one slide, opened for a program."""

import json

import dask.array
import numpy as np
import pyarrow.parquet as pq
import pytest

import noctile
from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.layout import SlideFolder


@pytest.fixture
def slide(results) -> SlideResult:
    return noctile.open(results)["a"]


def test_the_mask_is_read_as_zarr_numpy_and_dask(slide):
    expected = MaskStore.open(slide.path / "mask.ome.zarr").read_level(0)
    mask = slide.mask()
    assert (mask.shape, mask.dtype) == (expected.shape, np.uint8)
    assert np.array_equal(mask[100:300, 50:700], expected[100:300, 50:700])
    assert np.array_equal(np.asarray(mask), expected)
    lazy = dask.array.from_zarr(mask)
    assert np.array_equal((lazy == 1).sum(axis=0).compute(scheduler="sync"), (expected == 1).sum(0))


def test_each_level_of_the_mask_has_the_size_of_its_frame(slide):
    for level, frame in enumerate(slide.frames):
        assert slide.mask(level).shape == (frame.extent.height, frame.extent.width)
    with pytest.raises(ValueError, match=r"levels 0 to 2, not 3"):
        slide.mask(3)
    with pytest.raises(ValueError, match="not -1"):
        slide.mask(-1)


def test_nothing_is_written_through_the_mask(slide):
    with pytest.raises(ValueError, match="read-only"):
        slide.mask()[:2, :2] = 1


def test_heat_maps_have_two_channels_at_an_eighth(slide):
    probability, confidence = MaskStore.open(slide.path / "mask.ome.zarr").read_heat_maps(
        slide.frames[0].box
    )
    assert np.array_equal(np.asarray(slide.heat()), np.stack((probability, confidence)))


def test_classes_explain_the_labels(slide):
    assert [(code, c.name, c.role) for code, c in slide.classes.items()] == [
        (1, "tumor", "tumor"),
        (2, "stroma", "tissue"),
    ]
    assert slide.classes[1].color == (200, 0, 0)
    assert set(np.unique(slide.mask())) <= {0, *slide.classes}


def test_areas_are_those_of_the_mask(slide):
    labels, mm2 = np.asarray(slide.mask()), slide.frames[0].pixel_area_mm2
    for code, info in slide.classes.items():
        assert slide.area_mm2[info.name] == pytest.approx((labels == code).sum() * mm2, abs=1e-6)


def test_cores_of_tiles_lie_at_their_positions_in_level_0(slide):
    """The table of tiles counts micrometres from the corner of the scanned region."""
    plan = TilePlan.from_json(json.loads((slide.path / "plan.json").read_text())["plan"])
    tiles = slide.tiles
    assert len(tiles) == pq.read_metadata(slide.path / "tiles.parquet").num_rows
    cores = [plan.grid.core(*key) for key in zip(tiles["row"], tiles["col"], strict=True)]
    y0, x0 = slide.to_level0([core.y for core in cores], [core.x for core in cores])
    top, left, _, _ = slide.summary["bounds_px"]
    mpp_y, mpp_x = slide.summary["mpp"]
    assert np.allclose((y0 - top) * mpp_y, tiles["y_um"], atol=1e-3)
    assert np.allclose((x0 - left) * mpp_x, tiles["x_um"], atol=1e-3)


def test_positions_count_the_bounds_and_the_level(slide):
    slide.summary["bounds_px"][:2] = [1000, 50]  # as in MRXS
    slide.summary["mpp"] = [0.25, 0.125]  # the label map has 0.5 um
    assert slide.to_level0(0, 0) == (1000, 50)
    assert slide.to_level0(10, 10) == (1020, 90)
    assert slide.to_level0(10, 10, level=2) == (1080, 210)
    assert slide.from_level0(1080, 210, level=2) == (10, 10)


def test_positions_there_and_back_are_the_same(slide):
    slide.summary["bounds_px"][:2] = [1000, 50]
    y, x = np.mgrid[0:40:7, 0:90:11] + 0.5
    for level in range(3):
        back = slide.from_level0(*slide.to_level0(y, x, level), level)
        assert np.allclose(back, (y, x))
        assert back[0].shape == y.shape


def test_pictures_are_those_of_the_folder(slide):
    extent = slide.thumbnail_frame.extent
    assert slide.thumbnail.shape == (extent.height, extent.width, 3)
    assert slide.thumbnail.std() > 5
    assert slide.preview.mode == "RGB"


def test_the_summary_is_the_file(slide):
    assert slide.summary == json.loads((slide.path / "summary.json").read_text())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bounds_px", None),
        ("bounds_px", [1]),
        ("bounds_px", ["a", "b", 1, 1]),
        ("mpp", 0.5),
        ("mpp", [0, 0]),
    ],
)
def test_a_summary_without_a_place_is_damaged(slide, name, value):
    slide.summary[name] = value
    with pytest.raises(StoreError, match=r"summary\.json is damaged"):
        slide.to_level0(0, 0)


def test_areas_that_are_no_numbers_are_damage(slide):
    slide.summary["class_area_mm2"] = {"tumor": "much"}
    with pytest.raises(StoreError, match=r"summary\.json is damaged"):
        _ = slide.area_mm2


def test_a_preview_that_is_no_picture_is_an_error(damaged):
    folder = damaged / "slides" / "a"
    (folder / "preview.jpg").write_bytes(b"no picture")
    with pytest.raises(StoreError, match=r"preview\.jpg cannot be read"):
        _ = SlideResult(SlideFolder(folder)).preview
