"""Tiles read directly from TIFF files: the pixels of the slide libraries, damage, and the cache."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import tifffile
from tiff_layouts import (
    BY_TIFFSLIDE,
    LAYOUTS,
    LEVELS,
    Library,
    Pixels,
    through,
    with_tag,
    without_tile,
)
from tiny_slides import picture, pyramid, write_tiff

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pyramid import PyramidReader
from noctile.pipeline.slides.tiff import reader as tiled_module
from noctile.pipeline.slides.tiff.jpeg import Jpeg
from noctile.pipeline.slides.tiffslide import TiffSlideSource


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_the_pixels_of_openslide(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path / "a.tif")
    with closing(open_slide(path)) as one, closing(through(OpenSlideSource, path)) as other:
        assert (one.info.reader, other.info.reader) == ("tiled-tiff", "openslide")
        for frame in one.info.levels:
            assert np.array_equal(one.read(frame.box, frame.mpp), other.read(frame.box, frame.mpp))
        assert one.info.levels == other.info.levels
        assert (one.info.vendor, one.info.mpp_source) == (other.info.vendor, other.info.mpp_source)


@pytest.mark.parametrize("layout", BY_TIFFSLIDE)
def test_layouts_unknown_to_openslide_have_the_pixels_of_tiffslide(
    tmp_path: Path, layout: str
) -> None:
    path = BY_TIFFSLIDE[layout](tmp_path / "a.tif")
    with closing(open_slide(path)) as one, closing(through(TiffSlideSource, path)) as other:
        assert (one.info.reader, other.info.reader) == ("tiled-tiff", "tiffslide")
        for frame in one.info.levels:
            assert np.array_equal(one.read(frame.box, frame.mpp), other.read(frame.box, frame.mpp))


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("CMU-1-Small-Region.svs", OpenSlideSource),
        ("CMU-1-Small-Region.wrong-mpp.tiff", OpenSlideSource),
        ("bfconvert-jpeg.ome.tiff", TiffSlideSource),  # photometric RGB, but JFIF streams of YCbCr
    ],
)
def test_real_slides_have_the_same_pixels_bit_for_bit(
    shared_data: Path, name: str, library: Library
) -> None:
    path = shared_data / "slides" / name
    with closing(open_slide(path, mpp=0.5)) as one, closing(through(library, path, 0.5)) as other:
        assert one.info.reader == "tiled-tiff"
        box = one.info.frame.box
        assert np.array_equal(one.read(box, 0.5), other.read(box, 0.5))


def one_jpeg_level(path: Path) -> Path:
    return write_tiff(path, LEVELS[:1], 0.25, 0.25)


def test_a_tile_that_was_never_written_is_white_like_in_openslide(tmp_path: Path) -> None:
    path = without_tile(one_jpeg_level(tmp_path / "a.tif"), 1)
    with closing(open_slide(path)) as one, closing(through(OpenSlideSource, path)) as other:
        assert one.info.reader == "tiled-tiff"
        box = one.info.frame.box
        assert (one.read(Box(0, 64, 64, 64), 0.25) == 255).all()
        assert (one.read(Box(0, 32, 32, 32), 0.5) == 255).all()
        assert np.array_equal(one.read(box, 0.25), other.read(box, 0.25))


def test_a_level_without_any_tile_is_white(tmp_path: Path) -> None:
    path = one_jpeg_level(tmp_path / "a.tif")
    with_tag(path, "TileByteCounts", lambda counts: [0] * len(counts))
    with closing(open_slide(path)) as reader:
        assert reader.info.reader == "tiled-tiff"
        assert (reader.read(reader.info.frame.box, 0.25) == 255).all()


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("TileOffsets", 4_000_000_000, "bytes at offset 4000000000, the file holds 0 of them"),
        (
            "TileByteCounts",
            4_000_000_000,
            "the tags state 4000000000 bytes for a tile of 64 x 64 px",
        ),
        ("TileByteCounts", 20, "decoded"),
    ],
)
def test_damaged_tags_are_an_error_of_their_tile_only(
    tmp_path: Path, tag: str, value: int, message: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", pyramid(LEVELS[0], 4), 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        before = reader.read(Box(0, 0, 64, 64), 0.25)
    with_tag(path, tag, lambda values: [values[0], value, *values[2:]])
    with closing(open_slide(path)) as reader:
        assert reader.info.reader == "tiled-tiff"
        with pytest.raises(
            SlideReadError,
            match=rf"slide a: level 0, rows 0 to 64, columns 64 to 128 .*({message})",
        ):
            reader.read(Box(0, 64, 64, 64), 0.25)
        with pytest.raises(
            SlideReadError, match="slide a: level 0, rows 0 to 64, columns 64 to 128"
        ):
            reader.read(Box(0, 32, 32, 32), 0.5)
        assert np.array_equal(reader.read(Box(0, 0, 64, 64), 0.25), before)


@pytest.mark.parametrize(
    "layout", ["ycbcr 420", "lzw", "deflate", "zstd", "none", "packbits", "Aperio JPEG 2000 RGB"]
)
def test_a_file_that_is_cut_short_while_it_is_open_is_an_error(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path / "a.tif")
    with closing(open_slide(path)) as reader:
        with path.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(SlideReadError, match="the file holds"):
            reader.read(reader.info.frame.box, 0.25)


def test_padding_of_the_last_tiles_never_shows(tmp_path: Path) -> None:
    """The slide is light, and its last tiles are padded with black."""
    light = np.full((75, 77, 3), 200, np.uint8)
    padded = np.zeros((128, 128, 3), np.uint8)
    padded[:75, :77] = light
    tiles = [padded[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
    streams = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(t), 95, colorsubsampling="444") for t in tiles
    ]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "ycbcr", "compression": "jpeg", "metadata": None}
        file.write(iter(streams), shape=light.shape, dtype=np.uint8, tile=(64, 64), **options)
    with closing(open_slide(path, mpp=0.25)) as reader:
        assert reader.info.reader == "tiled-tiff"
        for mpp in (0.25, 0.5, 1.0, 1.3, 2.0):
            pixels = reader.read(reader.info.frame.at(mpp).box, mpp)
            assert pixels.min() > 150  # the last whole pixels have ringing beside the black


def strips(reader: PyramidReader, overlap_px: int) -> None:
    """Read all of a level like `segment_block`, in overlapping rows of tiles."""
    extent = reader.info.frame.extent
    for y in range(0, extent.height, 128 - overlap_px):
        reader.read(Box(y, 0, min(128, extent.height - y), extent.width), 0.25)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Number of times each stream was decoded."""
    decode, counts = Jpeg.decode, Counter()

    def count(codec: Jpeg, stream: bytes, factor: int, into: Pixels) -> Pixels:
        counts[stream] += 1
        return decode(codec, stream, factor, into)

    monkeypatch.setattr(Jpeg, "decode", count)
    return counts


def determine_order(reader: SlideReader, decoded: Counter[bytes]) -> None:
    """Determine the channel order, and do not count the tiles that this decodes."""
    assert not reader.bgr
    decoded.clear()


@pytest.mark.parametrize(("overlap_px", "again"), [(0, 0), (32, 5), (64, 5)])
def test_each_tile_is_decoded_once_except_the_first_ones_that_are_used_again(
    tmp_path, decoded, overlap_px, again
) -> None:
    """Tiles are cached only after the first row of five tiles is used again."""
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        determine_order(reader, decoded)
        strips(reader, overlap_px)
    assert len(decoded) == 50
    assert decoded.total() == 50 + again


def test_the_cache_has_a_fixed_size(tmp_path, decoded, monkeypatch) -> None:
    monkeypatch.setattr(tiled_module, "CACHE_BYTES", 10 * 64 * 64 * 3)
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        determine_order(reader, decoded)
        # in the second round all tiles are cached, but each is dropped before it is used again
        for _ in range(2):
            strips(reader, 0)
            reader.read(Box(576, 0, 64, 64), 0.25)
        held = [tile for _, tile in reader._source._cache._used.values()]
    assert len(held) == 10
    assert decoded.total() == 100 + 1  # the last tile, the first one that was used again


def test_buffers_begin_beside_the_boundaries_at_which_libjpeg_bypasses_the_cache(
    tmp_path, monkeypatch
) -> None:
    begins = []
    decode = Jpeg.decode

    def noting(self: Jpeg, stream: bytes, factor: int, into: Any) -> Any:
        begins.append(into.ctypes.data)
        return decode(self, stream, factor, into)

    monkeypatch.setattr(Jpeg, "decode", noting)
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        strips(reader, 32)  # into a buffer that is used again, then into cached tiles
    assert len(set(begins)) > 10
    assert {begin % 16 for begin in begins} == {8}


def test_a_read_decodes_only_the_tiles_under_the_box(
    tmp_path: Path, decoded: Counter[bytes]
) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        determine_order(reader, decoded)
        reader.read(Box(64, 64, 64, 128), 0.25)
        assert decoded.total() == 2
        reader.read(Box(63, 63, 66, 66), 0.25)
        assert len(decoded) == 9


def test_a_reduction_leaves_out_rows_and_columns_that_fill_no_pixel(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(151, 203)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        whole = reader.read(reader.info.frame.at(0.5).box, 0.5)
    assert whole.shape == (76, 102, 3)
    assert (whole[75] == 255).all()
    assert (whole[:, 101] == 255).all()
    assert (whole[:75, :101] < 255).any(axis=2).all()
    assert Extent(151 // 2, 203 // 2) == Extent(75, 101)
