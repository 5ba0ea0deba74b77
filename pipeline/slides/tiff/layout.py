"""Which files are read tile by tile, and where their tiles stand: a rule on vendor and TIFF tags,
in one place.

The slide library says what a slide is; that it would show the same pixels is what the rule is for.
All that has peculiarities (vendors with stitched or sparse levels, strips, planes, deep or
subsampled samples) stays with it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tifffile import PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from noctile.pipeline.geometry import Extent
from noctile.pipeline.slides.source import SourceInfo
from noctile.pipeline.slides.tiff.codecs import (
    DECODE_ERRORS,
    UNPACK,
    Jpeg2000,
    Packed,
    TileCodec,
    Webp,
)
from noctile.pipeline.slides.tiff.jpeg import Jpeg
from noctile.pipeline.slides.tiff.tags import TIFF_ERRORS

MAX_TILE_PX = 4096**2
"""Largest tile that is read: what is decoded for one pixel is 48 MiB at most."""

_MAX_BYTES_PER_PX = 8
"""The most that a tile's bytes may take; no codec needs more than the 3 or 4 of its pixels and a
little."""

_RGB, _YCBCR, _GREY = (PHOTOMETRIC.RGB, 3), (PHOTOMETRIC.YCBCR, 3), (PHOTOMETRIC.MINISBLACK, 1)
_RGBA = (PHOTOMETRIC.RGB, 4)
_COLOURS = {
    7: {_RGB, _YCBCR, _GREY},
    33005: {_RGB},
    34712: {_RGB},
    50001: {_RGB},
    **{packed: {_RGB, _RGBA, _GREY} for packed in UNPACK},
}
"""By the tag Compression (JPEG, JPEG 2000 twice, WebP, others): photometric interpretations and
samples that are read.

33003 is left to OpenSlide: Aperio's JPEG 2000 with subsampled YCbCr, which OpenSlide and
imagecodecs turn into RGB one grey level apart, for 1.1 to 1.2 times the speed.
"""

_NO_ALPHA, _STRAIGHT_ALPHA = (), (2,)
"""Values of ExtraSamples. Premultiplied alpha (1) and unspecified samples (0) are OpenSlide's.
(TIFF 6.0, page 31)"""

_UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class TileLayout:
    """The tiles of one level.

    Attributes:
        tile: extent of a tile (px).
        across: tiles in a row.
        offsets: where each tile's bytes begin in the file, row by row.
        counts: how many bytes there are; 0 is a tile that was never written.
        codec: decodes them.
        reductions: factors that it can reduce by.
    """

    tile: Extent
    across: int
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    codec: TileCodec
    reductions: tuple[int, ...]

    @property
    def max_bytes(self) -> int:
        """The most bytes that a tile may be said to take."""
        return self.tile.area * _MAX_BYTES_PER_PX


@dataclass(frozen=True, slots=True)
class LibraryOnly:
    """A file that stays with the slide library.

    Attributes:
        reason: why; goes on from "the file ...".
    """

    reason: str


def tile_layouts(path: Path, facts: SourceInfo) -> tuple[TileLayout, ...] | LibraryOnly:
    """The tiles of all levels of a TIFF file, or why it is not read tile by tile.

    That depends on what the slide library says of the file, on the tags of each level's page and on
    the head of its first tile.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        return _tile_layouts(path, facts)
    except TIFF_ERRORS as error:
        return LibraryOnly(f"has tags that are not understood: {error!r}")


def _tile_layouts(path: Path, facts: SourceInfo) -> tuple[TileLayout, ...] | LibraryOnly:
    with TiffFile(path) as tiff:
        pages = _pages(tiff, facts)
        if isinstance(pages, LibraryOnly):
            return pages
        grids = []
        for level, page in enumerate(pages):
            grid = _grid(tiff, page, facts)
            if isinstance(grid, LibraryOnly):
                return LibraryOnly(f"{grid.reason} (level {level})")
            grids.append(grid)
    return tuple(grids)


def _pages(tiff: TiffFile, facts: SourceInfo) -> list[TiffPage] | LibraryOnly:
    """The page of each level, chosen as the slide library does.

    (OpenSlide 4.0.1: openslide-vendor-aperio.c, openslide-vendor-generic-tiff.c; tiffslide 3.0:
    parse_generic_tiff)
    """
    tiled = [page for page in (page.aspage() for page in tiff.pages) if page.is_tiled]
    match facts.reader, facts.vendor:
        case "openslide", "aperio":
            pages = tiled
        case "openslide", "generic-tiff":
            levels = [page for page in tiled if page.index == 0 or page.subfiletype & 1]
            pages = sorted(levels, key=lambda page: -page.imagewidth)
        case "tiffslide", "generic-tiff":
            pages = _series_pages(tiff.series[0])
        case reader, vendor:
            return LibraryOnly(
                f"is of vendor {vendor!r}, whose levels {reader} puts together in its own way"
            )
    if [Extent(page.imagelength, page.imagewidth) for page in pages] != list(facts.extents):
        return LibraryOnly("has levels that are not a page each")
    if len(set(facts.extents)) < len(pages):
        return LibraryOnly("has levels of the same size")
    return pages


def _series_pages(series: TiffPageSeries) -> list[TiffPage]:
    """The page of each level of a series; [] unless it is one page."""
    levels = [[page for page in level.pages if page] for level in series.levels]
    return (
        [pages[0].aspage() for pages in levels] if all(len(pages) == 1 for pages in levels) else []
    )


def _grid(tiff: TiffFile, page: TiffPage, facts: SourceInfo) -> TileLayout | LibraryOnly:
    reason = _objection(page, facts)
    if reason:
        return LibraryOnly(reason)
    tile = Extent(page.tilelength, page.tilewidth)
    codec = _codec(page, tile, facts)
    offsets, counts = (
        np.array(page.dataoffsets, np.uint64),
        np.array(page.databytecounts, np.uint64),
    )
    grid = TileLayout(tile, -(-page.imagewidth // tile.width), offsets, counts, codec, ())
    if not counts.any():
        return grid
    size = tiff.filehandle.size
    whole = np.flatnonzero(
        counts.astype(bool)
        & (counts <= grid.max_bytes)
        & (offsets < size)
        & (offsets + counts <= size)
    )
    if not len(whole):
        return grid  # each read is a clear error; OpenSlide takes what memory the file asks for, or ends the process
    tiff.filehandle.seek(int(offsets[whole[0]]))
    try:
        return replace(
            grid, reductions=codec.reductions(tiff.filehandle.read(int(counts[whole[0]])))
        )
    except DECODE_ERRORS as error:
        if (counts > size).any():
            return grid  # likewise
        return LibraryOnly(f"has tiles that are not understood: {error}")


def _objection(page: TiffPage, facts: SourceInfo) -> str | None:
    """Why a level's page is not read tile by tile, by its tags."""
    count = -(-page.imagelength // max(1, page.tilelength)) * -(
        -page.imagewidth // max(1, page.tilewidth)
    )
    colour = page.photometric, page.samplesperpixel
    differences = page.predictor == 2 and page.compression in UNPACK
    checks = (
        (page.is_tiled and page.tilelength > 0, "is stored in strips"),
        (page.tilewidth * page.tilelength <= MAX_TILE_PX, "has tiles of more than 16 megapixels"),
        (page.planarconfig == 1, "stores each colour in a plane of its own"),
        (
            (page.bitspersample, page.sampleformat) == (8, 1),
            "has pixels of more or less than 8 bits",
        ),
        (page.imagedepth == page.tiledepth == 1, "has more than one plane of depth"),
        (page.fillorder == 1, "has its bits in reverse order"),
        (page.tags.valueof("Orientation", _UPRIGHT) == _UPRIGHT, "is stored upside down or turned"),
        (
            page.compression in _COLOURS,
            f"is compressed by a codec ({page.compression}) that is not read directly",
        ),
        (
            colour in _COLOURS.get(page.compression, ()),
            f"has colours {colour} that this codec is not read with",
        ),
        (
            page.extrasamples == (_STRAIGHT_ALPHA if colour == _RGBA else _NO_ALPHA),
            "has extra samples",
        ),
        (page.predictor == 1 or differences, f"has predictor {page.predictor}"),
        (
            len(page.dataoffsets) == len(page.databytecounts) == count,
            "does not list a place for each tile",
        ),
        (
            facts.vendor != "aperio" or all(page.databytecounts),
            "lacks tiles, which OpenSlide draws from other levels",
        ),
    )
    return next((words for holds, words in checks if not holds), None)


def _codec(page: TiffPage, tile: Extent, facts: SourceInfo) -> TileCodec:
    """The codec of a page that nothing is said against."""
    match page.compression:
        case 7:
            # tiffslide, as Bio-Formats writes it: colours are RGB for the tag, but a JFIF marker
            # says YCbCr.
            marked = (
                facts.reader == "tiffslide" and page.photometric == PHOTOMETRIC.RGB and page.is_jfif
            )
            return Jpeg(
                tile, page.jpegtables or b"", page.photometric == PHOTOMETRIC.YCBCR or marked
            )
        case 34712 | 33005:
            return Jpeg2000(tile)
        case 50001:
            return Webp(tile)
        case packed:
            return Packed(tile, page.samplesperpixel, UNPACK[packed], page.predictor == 2)
