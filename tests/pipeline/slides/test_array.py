"""RGB array in memory as a slide."""

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.errors import MppImplausibleError, UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.array import array_reader
from noctile.pipeline.slides.open import open_slide

PIXELS = np.random.default_rng(3).integers(0, 255, (211, 301, 3), dtype=np.uint8)


def test_an_array_is_read_as_the_same_image_on_disk(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    on_disk = open_slide(tmp_path / "a.png", mpp=(0.25, 0.26))
    in_memory = array_reader(PIXELS, (0.25, 0.26))
    assert in_memory.info.frame == on_disk.info.frame
    for mpp in (0.2, 0.25, 0.5, 0.77, 2.0):
        box = in_memory.info.frame.at(mpp).box.grow(5)
        assert np.array_equal(in_memory.read(box, mpp), on_disk.read(box, mpp))
    on_disk.close()


def test_an_array_may_be_a_view_that_is_not_contiguous():
    reader = array_reader(PIXELS[::2, 10:200][:, ::-1], 0.5)
    assert np.array_equal(reader.read(Box(0, 0, 106, 190), 0.5), PIXELS[::2, 10:200][:, ::-1])


def test_channels_of_an_array_are_rgb_without_a_doubt():
    reader = array_reader(PIXELS, 0.5)
    assert (reader.bgr, reader.flags) == (False, ())
    reader.close()


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS[..., 0],
        PIXELS.astype(np.float32),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_rgb_image_is_refused(pixels):
    with pytest.raises(UsageError, match=r"uint8 \[h, w, 3\] in RGB order; found"):
        array_reader(pixels, 0.5)


def test_an_implausible_pixel_size_is_refused():
    with pytest.raises(MppImplausibleError):
        array_reader(PIXELS, 250.0)
