"""Thumbnail of a slide, and its last row and column."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_slides import picture

from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue


@pytest.mark.parametrize(("height", "width"), [(320, 480), (321, 495), (10, 7)])
def test_a_thumbnail_equals_a_read_except_its_unfilled_last_row_and_column(
    tmp_path, height, width
) -> None:
    Image.fromarray(picture(height, width)).save(tmp_path / "a.png")
    reader = open_slide(tmp_path / "a.png", mpp=0.5)
    pixels, frame = read_thumbnail(reader, 8.0)
    read = reader.read(frame.box, 8.0)
    rows, cols = max(1, height // 16), max(1, width // 16)
    assert frame == reader.info.frame.at(8.0)
    assert pixels.shape == read.shape
    assert np.array_equal(pixels[:rows, :cols], read[:rows, :cols])
    assert (pixels[rows:] == pixels[rows - 1]).all()
    assert (pixels[:, cols:] == pixels[:, cols - 1 : cols]).all()


def test_grey_glass_with_an_unfilled_last_row_is_no_tissue(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (327, 6007, 3))
    Image.fromarray((236 + noise).astype(np.uint8)).save(tmp_path / "glass.png")
    reader = open_slide(tmp_path / "glass.png", mpp=0.5)
    assert not find_tissue(*read_thumbnail(reader, 8.0), TissueSpec()).mask.any()
