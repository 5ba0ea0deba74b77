"""tiffslide as a pixel source: its description of a file, its levels, and files that it refuses."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from malformed import tiffs
from tiny_slides import packed, picture, pyramid, write_tiff

from noctile.pipeline.errors import SlideOpenError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.tiffslide import TiffSlideSource


def test_boxes_are_in_pixels_of_the_level(tmp_path: Path) -> None:
    levels = pyramid(picture(151, 203), 2, 4)
    path = write_tiff(tmp_path / "a.tif", levels, 0.25, 0.26, None)
    with closing(TiffSlideSource(path, "a")) as source:
        assert source.info.extents == tuple(Extent(*level.shape[:2]) for level in levels)
        # TIFF holds a resolution as a fraction, which older releases of tifffile round
        assert source.info.mpp == pytest.approx((0.25, 0.26), rel=1e-5)
        box = Box(11, 13, 20, 30)
        for index, level in enumerate(levels):
            assert np.array_equal(source.fetch(index, box), level[box.slices()])


def test_pixels_of_16_bits_are_refused(tmp_path: Path) -> None:
    deep = picture(64, 64).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", [deep], 0.25, 0.25, None)
    with pytest.raises(SlideOpenError, match=r"slide a: .*3 x uint16.* Convert it to a tiled"):
        TiffSlideSource(path, "a")


def test_pixels_of_4_bits_are_refused(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", [picture(64, 64) >> 4]
    with packed():
        write_tiff(path, pixels, 0.25, 0.25, None, bitspersample=4)
    with pytest.raises(SlideOpenError, match=r"slide a: .*3 x uint8 of 4 bits.* only 8-bit"):
        TiffSlideSource(path, "a")


def test_tiles_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    image = tiffs.tiled(300, 300, t325=(tiffs.LONG, (2**30,) * 4))
    with pytest.raises(SlideOpenError, match="1073741824 bytes is larger than the file"):
        TiffSlideSource(tiffs.write(tmp_path / "a.tif", image), "a")
