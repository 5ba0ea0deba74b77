"""Sample slides: the files equal the output of the generator, and the truth fits the pixels."""

import csv
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from noctile.pipeline.geometry import Extent, Frame
from sample_slides.files import write_slide
from sample_slides.layout import lay_out
from sample_slides.region import make_region
from sample_slides.samples import SAMPLES, draw_slide

FOLDER = Path(__file__).resolve().parents[1] / "sample_slides"
EXPECTED = {
    "tumor-nests-20x.svs": ("aperio", 0.499, "20"),
    "fat-and-infiltrate-20x.svs": ("aperio", 0.499, "20"),
    "scan-40x.svs": ("aperio", 0.25, "40"),
    "generic.tiff": ("generic-tiff", 0.5, None),
    "pen-marks.svs": ("aperio", 0.499, "20"),
    "nearly-blank.svs": ("aperio", 0.499, "20"),
}
EACH = pytest.mark.parametrize("file", EXPECTED)
SAME = 1e-3
"""Largest share of pixels that may differ: processors round a few sums of floats differently."""


def _sample(file: str):
    return next(sample for sample in SAMPLES if sample.file == file)


def _truth(file: str) -> np.ndarray:
    return np.asarray(Image.open(FOLDER / "truth" / f"{Path(file).stem}.png"))


def _level0(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def _differing(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(np.any(a != b, axis=-1) if a.ndim == 3 else a != b))


def _recorded_areas() -> dict[tuple[str, str], float]:
    with (FOLDER / "truth" / "areas.csv").open(newline="") as file:
        return {
            (row["slide_id"], row["class"]): float(row["area_mm2"]) for row in csv.DictReader(file)
        }


def test_the_repository_holds_all_samples_and_no_other_slides():
    here = {path.name for path in FOLDER.iterdir() if path.suffix in (".svs", ".tiff")}
    assert here == set(EXPECTED) == {sample.file for sample in SAMPLES}
    assert {path.stem for path in (FOLDER / "truth").glob("*.png")} == {
        Path(file).stem for file in EXPECTED
    }


@pytest.mark.parametrize("file", ["pen-marks.svs", "nearly-blank.svs"])
def test_the_generator_writes_the_slides_of_the_repository(file, tmp_path):
    sample = _sample(file)
    rgb, truth = draw_slide(sample)
    write_slide(tmp_path / file, rgb, sample)
    assert _differing(_level0(tmp_path / file), _level0(FOLDER / file)) <= SAME
    assert _differing(truth, _truth(file)) <= SAME


@pytest.mark.parametrize(
    "file", ["tumor-nests-20x.svs", "fat-and-infiltrate-20x.svs", "scan-40x.svs", "generic.tiff"]
)
def test_the_generator_lays_out_the_truth_of_the_repository(file):
    sample = _sample(file)
    extent = sample.truth_frame.extent
    rng = np.random.default_rng(sample.seed)
    codes = lay_out(rng, (extent.height, extent.width), sample.recipe, outline=True)
    assert _differing(codes, _truth(file)) <= SAME


def test_equal_seeds_give_equal_regions_and_other_seeds_give_others():
    rgb, codes = make_region(3, 256, 300, 0.5)
    again, codes_again = make_region(3, 256, 300, 0.5)
    other, _ = make_region(4, 256, 300, 0.5)
    assert rgb.shape == (256, 300, 3)
    assert rgb.dtype == codes.dtype == np.uint8
    assert np.array_equal(rgb, again)
    assert np.array_equal(codes, codes_again)
    assert not np.array_equal(rgb, other)


@EACH
def test_openslide_finds_vendor_pixel_size_and_a_pyramid(file):
    vendor, mpp, power = EXPECTED[file]
    with openslide.OpenSlide(FOLDER / file) as slide:
        assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == vendor
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(
            mpp, rel=1e-6
        )
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(
            mpp, rel=1e-6
        )
        assert slide.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER) == power
        assert slide.level_count == 2
        assert slide.level_downsamples == pytest.approx((1, 4), rel=0.01)
        assert all(2000 <= side <= 3000 for side in slide.dimensions)


@EACH
def test_the_truth_has_the_frame_of_the_slide_at_half_a_micrometre(file):
    with openslide.OpenSlide(FOLDER / file) as slide:
        width, height = slide.dimensions
    extent = Frame(Extent(height, width), EXPECTED[file][1], EXPECTED[file][1]).at(0.5).extent
    assert _truth(file).shape == (extent.height, extent.width)


@EACH
def test_the_table_of_areas_counts_the_pixels_of_the_truth(file):
    truth, recorded = _truth(file), _recorded_areas()
    with openslide.OpenSlide(FOLDER / file) as slide:
        width, height = slide.dimensions
    mpp = EXPECTED[file][1]
    pixel_mm2 = Frame(Extent(height, width), mpp, mpp).at(0.5).pixel_area_mm2
    names = {1: "tumor", 2: "stroma", 3: "lymphocytic_infiltrate", 9: "fat"}
    assert set(np.unique(truth)) <= {0, *names}
    assert {name for slide_id, name in recorded if slide_id == Path(file).stem} == set(
        names.values()
    )
    for code, name in names.items():
        assert recorded[Path(file).stem, name] == pytest.approx(
            np.sum(truth == code) * pixel_mm2, abs=6e-7
        )


@EACH
def test_tissue_is_darker_than_glass(file):
    pixels = _level0(FOLDER / file)
    factor = round(0.5 / EXPECTED[file][1])
    pixels, truth = pixels[::factor, ::factor], _truth(file)
    glass = pixels[truth == 0]
    assert np.median(glass) > 225
    for code in set(np.unique(truth)) & {1, 2, 3}:
        assert np.mean(pixels[truth == code]) < np.median(glass) - 40


def test_the_nearly_blank_slide_has_no_tissue_and_the_others_have_tumor():
    tumor = {
        slide_id: area for (slide_id, name), area in _recorded_areas().items() if name == "tumor"
    }
    assert [slide_id for slide_id, area in tumor.items() if area == 0] == ["nearly-blank"]
    assert not _truth("nearly-blank.svs").any()


def test_the_slides_and_their_truth_stay_small():
    files = [path for path in FOLDER.rglob("*") if path.suffix in (".svs", ".tiff", ".png", ".csv")]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
