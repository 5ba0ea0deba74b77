"""Tiles read straight from the file: the same pixels as the slide libraries, means where reduced,
and by rule."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image
from tiny_slides import APERIO, ArraySource, picture, pyramid, write_tiff, write_with_tables

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models.folder import find_model
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.open import open_slide, read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pyramid import PyramidReader, level_frames
from noctile.pipeline.slides.source import Reduction
from noctile.pipeline.slides.tiff import reader as tiled_module
from noctile.pipeline.slides.tiff.jpeg import Jpeg
from noctile.pipeline.slides.tiff.layout import LibraryOnly, tile_layouts
from noctile.pipeline.slides.tiffslide import TiffSlideSource

Pixels = np.ndarray
Library = type[OpenSlideSource] | type[TiffSlideSource]

GREY = picture(150, 200)[..., 0]
LEVELS = pyramid(picture(150, 200), 2)
FOUR = np.zeros((64, 64, 4), np.uint8)
RGB_JPEG = {"subsampling": (1, 1), "compressionargs": {"outcolorspace": "RGB"}}


def tiff(**options: Any) -> Callable[[Path], Path]:
    """Writes two levels of 0.25 um/px and up."""
    return lambda path: write_tiff(path, LEVELS, 0.25, 0.25, **options)


def tables(subsampling: str, colours: str, photometric: str) -> Callable[[Path], Path]:
    return lambda path: write_with_tables(path, LEVELS[0], subsampling, colours, photometric)


LAYOUTS = {
    "ycbcr 420": tiff(subsampling=(2, 2)),
    "ycbcr 422": tiff(subsampling=(2, 1)),
    "ycbcr 444": tiff(subsampling=(1, 1)),
    "rgb": tiff(**RGB_JPEG),
    "grey": lambda path: write_tiff(path, [GREY], 0.25, 0.25),
    "tables, ycbcr 420": tables("420", "YCBCR", "ycbcr"),
    "tables, ycbcr 422": tables("422", "YCBCR", "ycbcr"),
    "tables, rgb": tables("444", "RGB", "rgb"),
    "tables, rgb by the tag alone": tables("444", "YCBCR", "rgb"),
    "BigTIFF": tiff(file={"bigtiff": True}),
    "big-endian BigTIFF": tiff(file={"bigtiff": True, "byteorder": ">"}),
    "240-px tiles": tiff(tile=(240, 240)),
    "tiles wider than high": tiff(tile=(32, 128)),
    "Aperio": tiff(description=APERIO),
    "Aperio JPEG 2000 RGB": tiff(compression=33005, description=APERIO),
    "none": tiff(compression=None),
    "none, grey": lambda path: write_tiff(path, [GREY], 0.25, 0.25, None),
    **{codec: tiff(compression=codec) for codec in ("lzw", "deflate", "packbits", "zstd")},
    **{
        f"{codec}, predictor": tiff(compression=codec, predictor=True)
        for codec in ("lzw", "deflate", "zstd")
    },
    "deflate, grey predictor": lambda path: write_tiff(
        path, [GREY], 0.25, 0.25, "deflate", predictor=True
    ),
}

BY_TIFFSLIDE = {
    "webp": tiff(compression="webp"),
    "jpeg 2000": tiff(compression="jpeg2000"),
    "big-endian": tiff(file={"byteorder": ">"}),
    "big-endian tables": lambda path: swapped(
        write_with_tables(path, LEVELS[0], "420", "YCBCR", "ycbcr")
    ),
    "big-endian, none": tiff(compression=None, file={"byteorder": ">"}),
}


def swapped(path: Path) -> Path:
    """The same file in the other byte order, written again page by page."""
    with tifffile.TiffFile(path) as old:
        page = old.pages.first
        streams = [bytes(data) for data in _streams(old)]
        options = {
            "jpegtables": page.jpegtables,
            "photometric": page.photometric,
            "compression": page.compression,
        }
    with tifffile.TiffWriter(path, byteorder=">") as new:
        resolution = {
            "resolution": (40_000, 40_000),
            "resolutionunit": "CENTIMETER",
            "metadata": None,
        }
        new.write(
            iter(streams), shape=page.shape, dtype=np.uint8, tile=(64, 64), **options, **resolution
        )
    return path


def _streams(file: tifffile.TiffFile) -> Iterator[bytes]:
    page = file.pages.first
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.filehandle.seek(offset)
        yield file.filehandle.read(count)


def through(library: Library, path: Path, mpp: float | None = None) -> PyramidReader:
    return read_with(library(path, path.stem), path, path.stem, mpp)


def reason_of(path: Path) -> str:
    """Why the library that opens a file keeps it."""
    with closing(open_slide(path, mpp=0.25)) as reader:
        assert reader.info.reader in {"openslide", "tiffslide"}
        library = OpenSlideSource if reader.info.reader == "openslide" else TiffSlideSource
    with closing(library(path, "a")) as source:
        found = tile_layouts(path, source.info)
    assert isinstance(found, LibraryOnly)
    return found.reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pixels_of_each_layout_are_openslides(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path / "a.tif")
    with closing(open_slide(path)) as one, closing(through(OpenSlideSource, path)) as other:
        assert (one.info.reader, other.info.reader) == ("tiled-tiff", "openslide")
        for frame in one.info.levels:
            assert np.array_equal(one.read(frame.box, frame.mpp), other.read(frame.box, frame.mpp))
        assert one.info.levels == other.info.levels
        assert (one.info.vendor, one.info.mpp_source) == (other.info.vendor, other.info.mpp_source)


@pytest.mark.parametrize("layout", BY_TIFFSLIDE)
def test_what_openslide_does_not_know_is_read_as_tiffslide_reads_it(
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
def test_real_slides_show_the_same_pixels_bit_for_bit(
    shared_data: Path, name: str, library: Library
) -> None:
    path = shared_data / "slides" / name
    with closing(open_slide(path, mpp=0.5)) as one, closing(through(library, path, 0.5)) as other:
        assert one.info.reader == "tiled-tiff"
        box = one.info.frame.box
        assert np.array_equal(one.read(box, 0.5), other.read(box, 0.5))


REDUCED = [("420", 2), ("420", 4), ("420", 8), ("444", 2), ("444", 4), ("444", 8)]


def tissue_slide(
    shared_data: Path, path: Path, region: str, subsampling: str, quality: int
) -> Path:
    """A 40x slide of one level, 256-px JPEG tiles: 1,024 x 1,024 px of a BCSS region."""
    with Image.open(shared_data / "bcss" / "images" / f"{region}.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))[512:1536, 1024:2048]
    factors = {"444": (1, 1), "420": (2, 2)}[subsampling]
    options = {"tile": (256, 256), "subsampling": factors, "compressionargs": {"level": quality}}
    return write_tiff(path, [pixels], 0.25, 0.25, **options)


@pytest.mark.parametrize("region", ["1008", "1015"])
@pytest.mark.parametrize(("subsampling", "factor"), REDUCED)
def test_reduced_tissue_is_40_db_from_means_of_its_pixels(
    shared_data, tmp_path, region, subsampling, factor
) -> None:
    path = tissue_slide(shared_data, tmp_path / "a.tif", region, subsampling, 80)
    with closing(open_slide(path)) as reader:
        full = reader.read(reader.info.frame.box, 0.25)
        reduced = reader.read(Box(0, 0, 1024 // factor, 1024 // factor), 0.25 * factor)
    means = np.asarray(Image.fromarray(full).reduce(factor)).astype(float)
    psnr = 10 * math.log10(255**2 / np.mean((reduced - means) ** 2))
    assert psnr > 47
    assert psnr < 60  # it was reduced while it was decoded, not averaged


def test_real_slides_are_40_db_from_the_means_too(shared_data: Path) -> None:
    for name in ("CMU-1-Small-Region.svs", "CMU-1-Small-Region.wrong-mpp.tiff"):
        path = shared_data / "slides" / name
        with (
            closing(open_slide(path, mpp=0.5)) as one,
            closing(through(OpenSlideSource, path, 0.5)) as other,
        ):
            for mpp in (1.0, 2.0, 4.0):
                inner = one.info.frame.at(mpp).box.grow(-1)
                squares = (one.read(inner, mpp).astype(float) - other.read(inner, mpp)) ** 2
                assert 10 * math.log10(255**2 / squares.mean()) > 40


def test_what_stays_below_40_db_is_not_offered(tmp_path: Path) -> None:
    for subsampling, factors in (
        ((2, 1), []),
        ((2, 2), [2, 4, 8]),
        ((1, 1), [2, 4, 8]),
        ((4, 1), []),
    ):
        path = write_tiff(tmp_path / "a.tif", LEVELS[:1], 0.25, 0.25, subsampling=subsampling)
        with closing(OpenSlideSource(path, "a")) as source:
            (grid,) = tile_layouts(path, source.info)
        assert list(grid.reductions) == factors


@pytest.mark.parametrize("region", ["1008", "1015"])
def test_the_shipped_model_labels_reduced_tissue_alike(
    shared_data: Path, tmp_path: Path, region: str
) -> None:
    path = tissue_slide(shared_data, tmp_path / "a.tif", region, "420", 80)
    predict = load_predictor(find_model("tumor"), "cpu", threads=2)
    with closing(open_slide(path)) as one, closing(through(OpenSlideSource, path)) as other:
        whole = one.info.frame.at(predict.card.mpp).box
        assert (whole.height, whole.width) == (512, 512)
        pixels = np.stack([reader.read(whole, predict.card.mpp) for reader in (one, other)])
    labels = np.asarray(predict(pixels)).argmax(axis=1)
    assert not np.array_equal(*pixels)
    assert 0.05 < labels[0].mean() < 0.95  # both labels are there
    assert (labels[0] == labels[1]).mean() >= 0.995


def one_jpeg_level(path: Path) -> Path:
    return write_tiff(path, LEVELS[:1], 0.25, 0.25)


def test_a_tile_that_was_never_written_is_white_as_in_openslide(tmp_path: Path) -> None:
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


def without_tile(path: Path, number: int) -> Path:
    return with_tag(
        path,
        "TileByteCounts",
        lambda counts: [0 if k == number else n for k, n in enumerate(counts)],
    )


def with_tag(path: Path, tag: str, change: Callable[[Any], Any]) -> Path:
    """The file with another value in a tag of its first page."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        found = file.pages.first.tags[tag]
        found.overwrite(change(found.value))
    return path


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
def test_damaged_tags_are_an_error_of_their_tile_alone(
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


@pytest.mark.parametrize("layout", [*LAYOUTS, *BY_TIFFSLIDE])
def test_bytes_that_are_no_tile_are_an_error_or_pixels(tmp_path: Path, layout: str) -> None:
    """PackBits, none and LZW decode nearly anything; nothing but a SlideReadError comes out of the
    rest."""
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


def other_size(path: Path) -> Path:
    """Tiles of 64 px by the tags, 32 px by their streams."""
    streams = [simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8)) for _ in range(4)]
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "ycbcr", "compression": "jpeg", "metadata": None}
        file.write(iter(streams), shape=(128, 128, 3), dtype=np.uint8, tile=(64, 64), **options)
    return path


def reversed_bits(path: Path) -> Path:
    """The file with its tag Orientation made FillOrder, which tifffile does not write."""
    orientation, fill_order = (
        code.to_bytes(2, "little") + b"\x03\x00\x01\x00\x00\x00" for code in (274, 266)
    )
    content = path.read_bytes()
    assert content.count(orientation) == 1
    path.write_bytes(content.replace(orientation, fill_order))
    return path


def one_level(**options: Any) -> Callable[[Path], Path]:
    return lambda path: write_tiff(path, LEVELS[:1], 0.25, 0.25, "deflate", **options)


KEPT = {
    "strips": (one_level(tile=None), "is stored in strips"),
    "planes": (one_level(planarconfig="separate"), "stores each colour in a plane of its own"),
    "turned": (one_level(extratags=[(274, 3, 1, 3, True)]), "is stored upside down or turned"),
    "bits reversed": (
        lambda path: reversed_bits(one_level(extratags=[(274, 3, 1, 2, True)])(path)),
        "in reverse order",
    ),
    "CMYK": (
        lambda path: write_tiff(
            path, [FOUR], 0.25, 0.25, None, photometric="separated", extrasamples=None
        ),
        "has colours",
    ),
    "premultiplied": (
        lambda path: write_tiff(path, [FOUR], 0.25, 0.25, None, extrasamples=["assocalpha"]),
        "has extra samples",
    ),
    "16 bit": (
        lambda path: write_tiff(path, [LEVELS[0].astype(np.uint16)], 0.25, 0.25, None),
        "has pixels of more or less than 8 bits",
    ),
    "Aperio's YCbCr JPEG 2000": (tiff(compression=33003, description=APERIO), "codec (33003)"),
    "Aperio with missing tiles": (
        lambda path: without_tile(tiff(description=APERIO)(path), 0),
        "lacks tiles, which OpenSlide draws from other levels",
    ),
    "levels of the same size": (
        lambda path: write_tiff(path, [LEVELS[0], LEVELS[0]], 0.25, 0.25),
        "has levels of the same size",
    ),
    "streams of another size": (
        other_size,
        "has tiles that cannot be decoded: the stream holds 32 x 32 px",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_unusual_stays_with_the_library_and_the_rule_says_why(
    tmp_path: Path, name: str
) -> None:
    write, reason = KEPT[name]
    assert reason in reason_of(write(tmp_path / "a.tif"))


def test_a_vendor_with_ways_of_its_own_stays_with_openslide(shared_data: Path) -> None:
    assert "vendor 'hamamatsu'" in reason_of(shared_data / "slides" / "fluorescence.ndpi")
    assert "cannot be decoded" in reason_of(shared_data / "slides" / "unreadable.svs")


def test_tiles_of_many_megapixels_stay_with_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_level()(tmp_path / "a.tif")
    monkeypatch.setattr("noctile.pipeline.slides.tiff.layout.MAX_TILE_PX", 64 * 64 - 1)
    assert reason_of(path) == "has tiles of more than 16 megapixels (level 0)"


def reader_of(source: ArraySource) -> PyramidReader:
    facts = source.info
    frame = Frame(facts.scanned.extent, *facts.mpp)
    levels = level_frames(facts, *facts.mpp)
    return PyramidReader(
        source,
        SlideInfo("a", Path("a"), "0", frame, levels, "a", "a", "user", "none", None, frame.box),
    )


@pytest.mark.parametrize(
    ("mpp", "index"),
    [(0.5, 0), (0.9, 0), (1.0, 2), (1.9, 2), (2.0, 1), (3.9, 1), (4.0, 4), (7.9, 4), (8.0, 4)],
)
def test_the_coarsest_level_is_taken_the_files_own_before_a_reduction(
    mpp: float, index: int
) -> None:
    """Of 0.5 and 2.0 um/px in the file (0, 1), and of its reductions to 1.0 (2), 2.0 (3) and 4.0
    um/px (4)."""
    source = ArraySource(
        pyramid(picture(256, 256), 4), None, (Reduction(0, 2), Reduction(0, 4), Reduction(1, 2))
    )
    reader = reader_of(source)
    assert len(reader.info.levels) == 2
    reader.read(Box(0, 0, 10, 10), mpp)
    assert source.levels_read == {index}


@pytest.mark.parametrize("mpp", [1.0, 1.3, 2.0, 3.1])
@pytest.mark.parametrize("bounds", [None, Box(12, 20, 101, 87), Box(13, 21, 101, 87)])
def test_reductions_lie_where_their_level_lies(mpp: float, bounds: Box | None) -> None:
    rows, cols = np.mgrid[:151, :203]
    pixels = np.dstack([rows, cols, 255 - rows]).astype(np.uint8)
    plain = reader_of(ArraySource([pixels], bounds))
    reduced = reader_of(ArraySource([pixels], bounds, (Reduction(0, 2),)))
    assert plain.info.levels == reduced.info.levels
    inner = plain.info.frame.at(mpp).box.grow(-2)
    assert np.abs(plain.read(inner, mpp).astype(int) - reduced.read(inner, mpp)).max() <= 1
    assert (reduced.read(Box(-5, -5, 5, 5), mpp) == 255).all()


def test_padding_of_the_last_tiles_never_shows(tmp_path: Path) -> None:
    """The slide is light, its tiles are filled up with black."""
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
            assert (
                pixels.min() > 150
            )  # ringing of the coder beside the black, in the last whole pixel


def strips(reader: PyramidReader, overlap_px: int) -> None:
    """Reads all of a level as `segment_block` does: rows of tiles that overlap."""
    extent = reader.info.frame.extent
    for y in range(0, extent.height, 128 - overlap_px):
        reader.read(Box(y, 0, min(128, extent.height - y), extent.width), 0.25)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each stream was decoded."""
    decode, counts = Jpeg.decode, Counter()

    def count(codec: Jpeg, stream: bytes, factor: int, into: Pixels) -> Pixels:
        counts[stream] += 1
        return decode(codec, stream, factor, into)

    monkeypatch.setattr(Jpeg, "decode", count)
    return counts


def looked_at(reader: SlideReader, decoded: Counter[bytes]) -> None:
    """The order of its channels is known, which leaves no trace."""
    assert not reader.bgr
    decoded.clear()


@pytest.mark.parametrize(("overlap_px", "again"), [(0, 0), (32, 5), (64, 5)])
def test_each_tile_is_decoded_once_but_for_the_first_that_are_needed_again(
    tmp_path, decoded, overlap_px, again
) -> None:
    """What is not needed twice is not kept; that it is shows at the first row of five tiles that
    is."""
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        looked_at(reader, decoded)
        strips(reader, overlap_px)
    assert len(decoded) == 50
    assert decoded.total() == 50 + again


def test_the_tiles_that_are_kept_take_a_fixed_number_of_bytes(
    tmp_path, decoded, monkeypatch
) -> None:
    monkeypatch.setattr(tiled_module, "CACHE_BYTES", 10 * 64 * 64 * 3)
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        looked_at(reader, decoded)
        for _ in range(
            2
        ):  # all tiles are kept the second time, but each is gone before it is wanted again
            strips(reader, 0)
            reader.read(Box(576, 0, 64, 64), 0.25)
        held = [tile for _, tile in reader._source._cache._used.values()]
    assert len(held) == 10
    assert decoded.total() == 100 + 1  # the last tile, when that showed


def test_no_tile_is_decoded_to_where_libjpeg_writes_past_the_processors_cache(
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
        strips(reader, 32)  # first to a buffer that is used again, then to such as are kept
    assert len(set(begins)) > 10
    assert {begin % 16 for begin in begins} == {8}


def test_reading_asks_for_the_tiles_under_the_box_alone(
    tmp_path: Path, decoded: Counter[bytes]
) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(640, 320)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        looked_at(reader, decoded)
        reader.read(Box(64, 64, 64, 128), 0.25)
        assert decoded.total() == 2
        reader.read(Box(63, 63, 66, 66), 0.25)
        assert len(decoded) == 9


def test_the_extent_of_a_reduction_leaves_out_what_fills_no_pixel(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(151, 203)], 0.25, 0.25)
    with closing(open_slide(path)) as reader:
        whole = reader.read(reader.info.frame.at(0.5).box, 0.5)
    assert whole.shape == (76, 102, 3)
    assert (whole[75] == 255).all()
    assert (whole[:, 101] == 255).all()
    assert (whole[:75, :101] < 255).any(axis=2).all()
    assert Extent(151 // 2, 203 // 2) == Extent(75, 101)
