"""Codecs of single tiles, on damaged streams and on plain samples."""

import zlib
from contextlib import closing, suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from tiff_layouts import BY_TIFFSLIDE, LAYOUTS
from tiny_slides import picture

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Extent
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.tiff.codecs import UNPACK, Jpeg2000, Packed


@pytest.mark.parametrize("layout", [*LAYOUTS, *BY_TIFFSLIDE])
def test_random_bytes_decode_to_pixels_or_a_read_error(tmp_path: Path, layout: str) -> None:
    """PackBits, LZW and no codec decode nearly any bytes; the others raise a SlideReadError."""
    path = (LAYOUTS | BY_TIFFSLIDE)[layout](tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        place, count = page.dataoffsets[-1], page.databytecounts[-1]
    with path.open("r+b") as file:
        file.seek(place + count // 4)
        file.write(np.random.default_rng(0).bytes(count - count // 4))
    with closing(open_slide(path)) as reader:
        assert reader.info.reader == "tiled-tiff"
        with suppress(SlideReadError):
            assert reader.read(reader.info.frame.box, 0.25).shape[2] == 3


@pytest.mark.parametrize(("samples", "differences"), [(1, False), (3, False), (3, True), (4, True)])
def test_plain_samples_are_unpacked_to_rgb(samples: int, differences: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, samples), dtype=np.uint8)
    if samples == 4:
        pixels[..., 3] = 255
    stored = np.diff(pixels, axis=1, prepend=np.uint8(0)) if differences else pixels
    codec = Packed(Extent(8, 16), samples, UNPACK[8], differences)
    decoded = codec.decode(zlib.compress(stored.tobytes()), 1, np.empty((8, 16, 3), np.uint8))
    assert np.array_equal(decoded, np.broadcast_to(pixels[..., :3], (8, 16, 3)))


def test_a_stream_with_too_few_samples_is_an_error() -> None:
    codec = Packed(Extent(8, 16), 3, UNPACK[1], differences=False)
    with pytest.raises(ValueError, match="the tile has 100 bytes instead of 384"):
        codec.decode(bytes(100), 1, np.empty((8, 16, 3), np.uint8))


def test_a_jpeg_2000_stream_must_have_the_size_of_its_tile() -> None:
    stream = bytes(imagecodecs.jpeg2k_encode(picture(64, 64), codecformat="j2k", level=0))
    assert Jpeg2000(Extent(64, 64)).reductions(stream) == ()
    with pytest.raises(ValueError, match="holds 64 x 64 px, not 64 x 32"):
        Jpeg2000(Extent(64, 32)).reductions(stream)
    with pytest.raises(ValueError, match="not a JPEG 2000 codestream"):
        Jpeg2000(Extent(64, 64)).reductions(b"\xff\xd8")
