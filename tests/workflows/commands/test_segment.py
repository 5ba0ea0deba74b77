"""One slide or image, segmented for a program."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standins import small_slide, threshold_model

import noctile
from noctile.pipeline.errors import MppMissingError, SlideMissingError, UsageError
from noctile.pipeline.slides.open import open_slide

SETTINGS = {"engine": "serial", "device": "cpu", "block_px": 480}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A slide, an image with the same pixels, and a run on both."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "slides").mkdir()
    small_slide(folder / "slides" / "a.tif", seed=0, height=1300, width=1500)
    reader = open_slide(folder / "slides" / "a.tif")
    pixels = reader.read(reader.info.frame.box, 0.5)
    reader.close()
    Image.fromarray(pixels).save(folder / "slides" / "image.png")
    threshold_model(folder / "model")
    slides = [folder / "slides" / "a.tif", folder / "slides" / "image.png"]
    noctile.run(slides, out=folder / "out", model=folder / "model", mpp=0.5, **SETTINGS)
    return folder


def same_as_a_run(found: noctile.Segmentation, written: noctile.SlideResult) -> bool:
    maps = np.stack((found.tumor_probability, found.confidence))
    assert np.array_equal(found.labels, written.mask())
    assert np.array_equal(maps, written.heat())
    assert found.labels.any()
    assert found.frame == written.frames[0]
    assert found.classes == written.classes
    assert found.area_mm2 == written.area_mm2
    assert found.qc_flags == written.summary["qc_flags"]
    return True


def test_a_slide_has_the_labels_that_a_run_writes(archive):
    path = archive / "slides" / "a.tif"
    found = noctile.segment(path, model=archive / "model", mpp=0.5, **SETTINGS)
    assert same_as_a_run(found, noctile.open(archive / "out")["a"])


def test_an_array_has_the_labels_that_a_run_writes_for_its_image(archive):
    pixels = np.asarray(Image.open(archive / "slides" / "image.png"))
    found = noctile.segment(pixels, model=archive / "model", mpp=0.5, **SETTINGS)
    assert same_as_a_run(found, noctile.open(archive / "out")["image"])


def test_the_size_of_blocks_does_not_change_the_labels(archive):
    path, model = str(archive / "slides" / "a.tif"), archive / "model"
    small = noctile.segment(path, model=model, mpp=0.5, block_px=256)
    large = noctile.segment(path, model=model, mpp=0.5)
    assert np.array_equal(small.labels, large.labels)


def test_the_default_model_gives_the_labels_of_a_run_on_a_real_network(repo, tmp_path):
    path = repo / "sample_slides" / "generic.tiff"
    noctile.run(path, out=tmp_path, mpp=0.5, engine="serial", device="cpu")
    found = noctile.segment(path, mpp=0.5, device="cpu")
    assert same_as_a_run(found, noctile.open(tmp_path)["generic"])


def test_an_array_needs_a_pixel_size(archive):
    with pytest.raises(UsageError, match="pass mpp"):
        noctile.segment(np.zeros((9, 9, 3), np.uint8), model=archive / "model")


def test_mistakes_are_named(archive):
    path = archive / "slides" / "a.tif"
    with pytest.raises(UsageError, match="no-such"):
        noctile.segment(path, model="no-such")
    with pytest.raises(UsageError, match="thrads is unknown"):
        noctile.segment(path, model=archive / "model", thrads=2)
    with pytest.raises(SlideMissingError):
        noctile.segment(archive / "missing.tif", model=archive / "model")
    with pytest.raises(MppMissingError):
        noctile.segment(archive / "slides" / "image.png", model=archive / "model")
