"""Regions of interest and tissue masks give the right labels with every slide reader."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from roi_files import box, drawn, feature, write_mask, write_roi
from scipy import ndimage
from standins import threshold_model
from tiny_slides import ArraySource, pyramid, write_tiff

from noctile.pipeline.errors import RoiError, TissueMaskError
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.plan import Tiling
from noctile.pipeline.roi.confinement import Confinement
from noctile.pipeline.segment_slide import Segmentation, segment_slide
from noctile.pipeline.slide_plan import SlidePlan, plan_slide
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.image import ImageSource
from noctile.pipeline.slides.open import open_slide, read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pyramid import PyramidReader, level_frames
from noctile.pipeline.slides.tiff.reader import TiledTiffSource
from noctile.pipeline.slides.tiffslide import TiffSlideSource
from noctile.pipeline.tissue import TissueSpec

HEIGHT, WIDTH, MPP = 1200, 1610, 0.25
BOUNDS = Box(300, 500, HEIGHT, WIDTH)
TILING = Tiling(0.5, 128, 32, "crop", 288, 2)
FEATURES = (
    feature(
        [(101.3, 90), (905, 41.7), (777, 640.2), (333, 555)], box(400, 200, 150.5, 120), name="A"
    ),
    feature(box(600, 500, 420, 333.3), label="Stroma"),
)
"""A polygon with a hole, and a rectangle that overlaps it (px of level 0)."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Tissue with dark nests all over a slide at 40x, with glass to the right."""
    rng = np.random.default_rng(5)
    nests = ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 25) > 0
    colours = np.where(nests[..., None], (120, 70, 150), (214, 150, 190))
    found = (colours + rng.normal(0, 14, (HEIGHT, WIDTH, 1))).clip(0, 255).astype(np.uint8)
    found[:, 1300:] = 243
    return found


@pytest.fixture(scope="module")
def predict(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_predictor(threshold_model(tmp_path_factory.mktemp("model")), "cpu", 1)


@pytest.fixture(scope="module")
def folder(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the slide as TIFF and PNG."""
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "a.tif", pyramid(pixels, 4), MPP, MPP, None)
    Image.fromarray(pixels).save(folder / "a.png", compress_level=1)
    return folder


def bounded(pixels: np.ndarray) -> PyramidReader:
    """Reader of a slide whose file states bounds, as those of MRXS do."""
    rng = np.random.default_rng(0)
    file = rng.integers(90, 200, (HEIGHT + 640, WIDTH + 704, 3), dtype=np.uint8)
    file[BOUNDS.slices()] = pixels
    source = ArraySource(pyramid(file, 4), BOUNDS)
    frame = Frame(BOUNDS.extent, MPP, MPP)
    levels = level_frames(source.info, MPP, MPP)
    about = "array", "array", "user", "none", None, BOUNDS
    return PyramidReader(source, SlideInfo("a", Path("a"), "0", frame, levels, *about))


@pytest.fixture(
    scope="module",
    params=[OpenSlideSource, TiffSlideSource, TiledTiffSource, ImageSource, "bounds"],
    ids=lambda kind: kind if isinstance(kind, str) else kind.__name__,
)
def reader(request, folder: Path, pixels: np.ndarray) -> Iterator[SlideReader]:
    if request.param == "bounds":
        yield bounded(pixels)
        return
    path = folder / ("a.png" if request.param is ImageSource else "a.tif")
    with closing(_opened(request.param, path)) as reader:
        yield reader


def _opened(kind: type, path: Path) -> SlideReader:
    if kind is TiledTiffSource:
        reader = open_slide(path)
        assert reader.info.reader == "tiled-tiff"
        return reader
    return read_with(kind(path, "a"), path, "a", MPP)


def planned(reader: SlideReader, roi: Path | None = None, mask: Path | None = None) -> SlidePlan:
    given = Confinement(roi, mask)
    return plan_slide(reader, TissueSpec(), TILING, measure_stain=False, confined=given)


@pytest.fixture(scope="module")
def free(reader: SlideReader, predict: Predictor) -> tuple[SlidePlan, Segmentation]:
    """Plan and labels of the whole slide."""
    plan = planned(reader)
    return plan, segment_slide(reader, plan, predict, 4)


def test_labels_inside_a_region_are_those_of_the_whole_slide_and_0_outside(
    reader, predict, free, tmp_path
):
    plan = planned(reader, write_roi(tmp_path / "roi.geojson", *FEATURES))
    found = segment_slide(reader, plan, predict, 4)
    inside = drawn(FEATURES, found.frame, (MPP, MPP))
    assert np.array_equal(found.labels, free[1].labels * inside)
    assert np.count_nonzero(found.labels) == np.count_nonzero(free[1].labels[inside]) > 30_000
    assert set(plan.tiles.tiles) < set(free[0].tiles.tiles)


def test_a_tissue_mask_takes_the_place_of_the_tissue_that_is_found(reader, predict, tmp_path):
    mask = np.zeros((75, 101), bool)  # 16 pixels of the slide a pixel, the last column rounded
    mask[10:50, 20:70] = True
    mask[30, 40] = False
    plan = planned(reader, mask=write_mask(tmp_path / "mask.png", mask))
    found = segment_slide(reader, plan, predict, 4)
    y, x = (
        np.floor((np.arange(n) + 0.5) * m / n).astype(int)
        for n, m in zip(found.labels.shape, mask.shape, strict=True)
    )
    assert np.array_equal(found.labels > 0, mask[np.ix_(y, x)])
    assert found.qc_flags == ["tissue_mask_given"]


def test_a_region_confines_a_tissue_mask(reader, predict, tmp_path):
    mask = write_mask(tmp_path / "mask.png", np.arange(75)[:, None].repeat(101, 1) < 40)
    roi = write_roi(tmp_path / "roi.geojson", *FEATURES)
    alone, both = (
        segment_slide(reader, planned(reader, *given), predict, 4)
        for given in ((None, mask), (roi, mask))
    )
    inside = drawn(FEATURES, both.frame, (MPP, MPP))
    assert np.array_equal(both.labels, alone.labels * inside)
    assert both.labels.any()


@pytest.mark.parametrize("given", ["roi", "mask"])
def test_files_of_another_slide_are_refused(reader, tmp_path, given):
    if given == "roi":
        roi = write_roi(tmp_path / "roi.geojson", feature(box(1500, 100, 300, 200)))
        with pytest.raises(RoiError, match=r"roi\.geojson.*region 1.*1200 x 1610 px"):
            planned(reader, roi)
    else:
        with pytest.raises(TissueMaskError, match=r"mask\.png has 75 x 75 px.*another slide"):
            planned(reader, mask=write_mask(tmp_path / "mask.png", np.ones((75, 75), bool)))
