"""Exports of samples and real slides: foreign readers find the labels, areas and positions.

Each slide is segmented once, by a model for which dark is tumor. So a mask that is off by a pixel
fits the pixels of the slide less well than the right one.
"""

import json
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import highdicom
import numpy as np
import openslide
import pytest
import shapely
import tifffile
import tiffslide
import zarr
from standins import threshold_model
from zarr.storage import ZipStore

from noctile.pipeline.export.formats import FORMATS
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

SAMPLES = Path(__file__).parents[2] / "sample_slides"
POINTS = 20_000
BOUNDS_YX = (3000, 4001)
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"

SLIDES = {
    "scan-40x.svs": (None, 0.6),
    "tumor-nests-20x.svs with bounds": (None, 0.6),
    "CMU-1-Small-Region.svs": (None, 0.6),
    "bfconvert-jpeg.ome.tiff": (0.5, 0.3),  # no tissue is found
    "camelyon-overview.dcm": (0.5, 0.2),  # 29 um/px in truth: too coarse for any model
    "fluorescence.ndpi": (None, 0.6),  # 40x; no tissue on a dark background
}
"""Pixel size (um) that is given for each slide, None for that of the file; density of dark."""

MORE = ("fat-and-infiltrate-20x.svs", "generic.tiff", "pen-marks.svs")

MM2 = 1e-6


class Exported:
    """A slide, its mask, and the files of all formats.

    Attributes:
        path: file of the slide.
        source: its result.
        dark_od: optical density from which a pixel is tumor.
        labels: uint8 ``[h, w]``, its label map.
        scale: level-0 pixels in a pixel of the label map (y, x).
        bounds: corner of the scanned region in level 0 (y, x; px).
        files: file of each format.
    """

    def __init__(self, path: Path, source: ExportSource, folder: Path, dark_od: float) -> None:
        self.path, self.source, self.dark_od = path, source, dark_od
        self.labels = source.store.read_level(0)
        frame, mpp = source.frames[0], source.summary["mpp"]
        self.pixel_mm2 = frame.mpp_y * frame.mpp_x * MM2
        self.scale = np.array([frame.mpp_y / mpp[0], frame.mpp_x / mpp[1]])
        self.bounds = np.array(source.summary["bounds_px"][:2])
        self.files = {name: folder / f"s{FORMATS[name].suffix}" for name in FORMATS}
        for name, file in self.files.items():
            FORMATS[name].write(source, file, {})

    def has_areas(self, labels: np.ndarray, pixel_mm2: float) -> None:
        """Check the areas of a label map against those of the summary."""
        for info in self.source.classes:
            area = np.count_nonzero(labels == info.code) * pixel_mm2
            stated = self.source.summary["class_area_mm2"][info.name]
            assert area == pytest.approx(stated, rel=5e-3, abs=2 * self.pixel_mm2)


@pytest.fixture(
    scope="module", params=[*SLIDES, *(pytest.param(m, marks=pytest.mark.long) for m in MORE)]
)
def exported(request, tmp_path_factory) -> Exported:
    out = tmp_path_factory.mktemp("out")
    mpp, dark_od = SLIDES.get(request.param, (None, 0.6))
    model = threshold_model(out / "dark", dark_od, tile_px=512)
    name, _, moved = request.param.partition(" ")
    path = SAMPLES / name
    if not path.exists():
        path = request.getfixturevalue("shared_data") / "slides" / name
    settings = RunSettings(model=str(model), engine="serial", device="cpu")
    (entry,) = find_slides([path], None, mpp).slides
    (row,) = run_slides([entry], settings, out / "results", lambda *_: None).rows
    assert row.status == "done", row.message
    slide = ResultsFolder(out / "results").slide(row.slide_id)
    summary = read_required_json(slide.summary)
    if moved:
        summary["bounds_px"][:2] = BOUNDS_YX
    return Exported(path, ExportSource.open(slide.mask, summary), out, dark_od)


def test_the_mask_lies_on_the_pixels_of_the_slide(exported):
    """A shift by one pixel of the label map, in any direction, fits the slide less well."""
    tumor, analysed = exported.labels == 1, exported.labels > 0
    if not analysed.any():
        pytest.skip("this slide has no tissue")
    dark = (darkness(exported) > exported.dark_od) & analysed
    dice = {}
    for dy, dx in product((-1, 0, 1), repeat=2):
        moved = np.roll(dark, (dy, dx), (0, 1))
        dice[dy, dx] = 2 * (moved & tumor).sum() / (dark.sum() + tumor.sum())
    assert max(dice, key=dice.get) == (0, 0)
    assert dice[0, 0] > 0.95


def darkness(exported: Exported) -> np.ndarray:
    """Optical density on the grid of the label map, float32 ``[h, w]``, by a reader of others.

    Each value is that of the level-0 pixels under a pixel of the label map, averaged.
    """
    library = tiffslide.TiffSlide if ".ome." in exported.path.name else openslide.OpenSlide
    with library(exported.path) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    height, width = exported.labels.shape
    for axis, (n, step) in enumerate(zip((height, width), exported.scale, strict=True)):
        pixels = box_means(pixels, n, step, axis)
    density = np.log10(256 / np.arange(1, 257)).astype(np.float32)
    return density[np.rint(pixels).astype(np.uint8)].mean(-1)


def box_means(pixels: np.ndarray, n: int, step: float, axis: int) -> np.ndarray:
    """Means over ``n`` intervals of a length (px) along an axis; the last one may end early."""
    lines = np.moveaxis(pixels, axis, 0).astype(np.float64)
    if abs(step - 1) < 0.02:  # the label map has the pixels of the slide
        return np.moveaxis(lines[:n], 0, axis)
    sums = np.concatenate([np.zeros_like(lines[:1]), np.cumsum(lines, 0)])
    edges = np.minimum(np.arange(n + 1) * step, len(lines))
    low = np.minimum(edges.astype(int), len(lines) - 1)
    part = (edges - low)[:, None, None]
    at_edges = sums[low] * (1 - part) + sums[low + 1] * part
    return np.moveaxis(np.diff(at_edges, axis=0) / np.diff(edges)[:, None, None], 0, axis)


def test_geojson_has_every_pixel_and_its_area(exported):
    """Shapely: the class of 20,000 pixel centres, and the area of all features."""
    features = json.loads(exported.files["geojson"].read_text(encoding="utf-8"))["features"]
    shapes = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    names = [feature["properties"]["classification"]["name"] for feature in features]
    codes = {info.name: info.code for info in exported.source.classes}
    assert shapely.is_valid(shapes).all()
    mpp_y, mpp_x = exported.source.summary["mpp"]
    for name in codes:
        area = sum(shape.area for shape, own in zip(shapes, names, strict=True) if own == name)
        stated = exported.source.summary["class_area_mm2"][name]
        assert area * mpp_y * mpp_x * MM2 == pytest.approx(stated, rel=5e-3, abs=1e-6)
    rng = np.random.default_rng(0)
    at = np.stack([rng.integers(n, size=POINTS) for n in exported.labels.shape], axis=1)
    centres = (at + 0.5) * exported.scale  # QuPath counts from the corner of the bounds
    points, found = shapely.STRtree(shapes).query(
        shapely.points(centres[:, ::-1]), predicate="within"
    )
    labels = np.zeros(POINTS, np.uint8)
    labels[points] = [codes[names[k]] for k in found]
    assert len(set(points)) == len(points)
    np.testing.assert_array_equal(labels, exported.labels[*at.T])


def test_ome_tiff_has_every_pixel_and_its_position(exported):
    with tifffile.TiffFile(exported.files["ome-tiff"]) as tiff:
        labels, xml = tiff.asarray(), ElementTree.fromstring(tiff.ome_metadata)
    np.testing.assert_array_equal(labels, exported.labels)
    pixels = xml.find(f"{OME}Image/{OME}Pixels")
    sides = [float(pixels.get(f"PhysicalSize{axis}")) for axis in "YX"]
    exported.has_areas(labels, sides[0] * sides[1] * MM2)
    (about,) = xml.findall(f".//{OME}MapAnnotation[@ID='Annotation:slide']")
    values = {m.get("K"): m.text for m in about.iter(f"{OME}M")}
    for k, axis in enumerate("yx"):
        assert float(values[f"level0_scale_{axis}"]) == pytest.approx(exported.scale[k])
        assert float(values[f"level0_offset_{axis}_px"]) == exported.bounds[k]


def test_dicom_seg_has_every_pixel_and_its_position(exported):
    read = highdicom.seg.segread(exported.files["dicom-seg"])
    segments = read.get_total_pixel_matrix(combine_segments=True)
    codes = np.array([0, *(info.code for info in exported.source.classes)])
    labels = codes[segments]
    np.testing.assert_array_equal(labels, exported.labels)
    measures = read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing_mm = np.array([float(mm) for mm in measures.PixelSpacing])
    exported.has_areas(labels, spacing_mm.prod())
    if exported.source.summary["vendor"] == "dicom":
        return  # positions are those of the slide's own header: tests/pipeline/export
    origin = read.TotalPixelMatrixOriginSequence[0]
    first = [float(origin.get(f"{axis}OffsetInSlideCoordinateSystem")) for axis in "YX"]
    corner_mm = np.array(first) - spacing_mm / 2
    slide_mm = np.array(exported.source.summary["mpp"]) / 1e3
    assert corner_mm / slide_mm == pytest.approx(exported.bounds, abs=1e-3)


def test_ozx_has_every_pixel_and_its_size(exported):
    with ZipStore(exported.files["ozx"], mode="r") as store:
        group = zarr.open_group(store, mode="r")["labels/classes"]
        labels, about = group["0"][:], group.attrs["ome"]["multiscales"][0]
    np.testing.assert_array_equal(labels, exported.labels)
    (scale,) = (
        t["scale"]
        for t in about["datasets"][0]["coordinateTransformations"]
        if t["type"] == "scale"
    )
    assert scale == pytest.approx(
        [exported.source.frames[0].mpp_y, exported.source.frames[0].mpp_x]
    )
    exported.has_areas(labels, scale[0] * scale[1] * MM2)
