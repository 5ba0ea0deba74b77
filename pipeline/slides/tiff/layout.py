"""Tile layout of TIFF files, and the rule by which files are read tile by tile.

The slide library describes each slide. The rule, on vendor and TIFF tags, selects the files for
which the library would return the same pixels. The library reads all others: vendors with stitched
or sparse levels, strips, planes, deep or subsampled samples.
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
"""Largest tile (px): to read one pixel, at most 48 MiB are decoded."""

_MAX_BYTES_PER_PX = 8
"""Most bytes of a stream for each pixel of its tile. No codec needs much more than the 3 or 4
bytes of the pixel."""

_RGB, _YCBCR, _GREY = (PHOTOMETRIC.RGB, 3), (PHOTOMETRIC.YCBCR, 3), (PHOTOMETRIC.MINISBLACK, 1)
_RGBA = (PHOTOMETRIC.RGB, 4)
_COLOURS = {
    7: {_RGB, _YCBCR, _GREY},
    33005: {_RGB},
    34712: {_RGB},
    50001: {_RGB},
    **{packed: {_RGB, _RGBA, _GREY} for packed in UNPACK},
}
"""Photometric interpretations and numbers of samples that are read, for each value of the tag
Compression (JPEG, JPEG 2000 twice, WebP, others).

33003 is left to OpenSlide: it is Aperio's JPEG 2000 with subsampled YCbCr. OpenSlide and
imagecodecs convert it to RGB with a difference of one grey level, and imagecodecs would be only 1.1
to 1.2 times as fast.
"""

_NO_ALPHA, _STRAIGHT_ALPHA = (), (2,)
"""Values of ExtraSamples that are read. Premultiplied alpha (1) and unspecified samples (0) are
left to OpenSlide. (TIFF 6.0, page 31)"""

_UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class TileLayout:
    """Layout of the tiles of one level in the file.

    Attributes:
        tile: extent of a tile (px).
        across: number of tiles in a row.
        offsets: offset of each tile's bytes in the file (B), row by row.
        counts: number of each tile's bytes (B); 0 for a tile that was never written.
        codec: codec that decodes the tiles.
        reductions: factors by which the codec can reduce the tiles.
    """

    tile: Extent
    across: int
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    codec: TileCodec
    reductions: tuple[int, ...]

    @property
    def max_bytes(self) -> int:
        """Most bytes that the stream of a tile may have (B)."""
        return self.tile.area * _MAX_BYTES_PER_PX


@dataclass(frozen=True, slots=True)
class LibraryOnly:
    """Result for a file that only the slide library reads.

    Attributes:
        reason: reason in words that continue "the file ...".
    """

    reason: str


def tile_layouts(path: Path, info: SourceInfo) -> tuple[TileLayout, ...] | LibraryOnly:
    """Find the tile layouts of all levels of a TIFF file, or the reason for which it has none.

    The result depends on the library's description of the file, on the tags of each level's page
    and on the head of its first tile.

    Args:
        path: the file.
        info: description of the file by the slide library.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        return _tile_layouts(path, info)
    except TIFF_ERRORS as error:
        return LibraryOnly(f"has tags that cannot be parsed: {error!r}")


def _tile_layouts(path: Path, info: SourceInfo) -> tuple[TileLayout, ...] | LibraryOnly:
    with TiffFile(path) as tiff:
        pages = _pages(tiff, info)
        if isinstance(pages, LibraryOnly):
            return pages
        layouts = []
        for level, page in enumerate(pages):
            layout = _layout(tiff, page, info)
            if isinstance(layout, LibraryOnly):
                return LibraryOnly(f"{layout.reason} (level {level})")
            layouts.append(layout)
    return tuple(layouts)


def _pages(tiff: TiffFile, info: SourceInfo) -> list[TiffPage] | LibraryOnly:
    """Page of each level, chosen like the slide library chooses it.

    (OpenSlide 4.0.1: openslide-vendor-aperio.c, openslide-vendor-generic-tiff.c; tiffslide 3.0:
    parse_generic_tiff)
    """
    tiled = [page for page in (page.aspage() for page in tiff.pages) if page.is_tiled]
    match info.reader, info.vendor:
        case "openslide", "aperio":
            pages = tiled
        case "openslide", "generic-tiff":
            levels = [page for page in tiled if page.index == 0 or page.subfiletype & 1]
            pages = sorted(levels, key=lambda page: -page.imagewidth)
        case "tiffslide", "generic-tiff":
            pages = _series_pages(tiff.series[0])
        case reader, vendor:
            return LibraryOnly(
                f"is of vendor {vendor!r}, whose levels {reader} assembles in a special way"
            )
    if [Extent(page.imagelength, page.imagewidth) for page in pages] != list(info.extents):
        return LibraryOnly("has levels that are not one page each")
    if len(set(info.extents)) < len(pages):
        return LibraryOnly("has levels of the same size")
    return pages


def _series_pages(series: TiffPageSeries) -> list[TiffPage]:
    """Page of each level of a series; [] unless each level is one page."""
    levels = [[page for page in level.pages if page] for level in series.levels]
    return (
        [pages[0].aspage() for pages in levels] if all(len(pages) == 1 for pages in levels) else []
    )


def _layout(tiff: TiffFile, page: TiffPage, info: SourceInfo) -> TileLayout | LibraryOnly:
    """Tile layout of one level, or the reason for which only the library reads it."""
    problem = _problem(page, info)
    if problem:
        return LibraryOnly(problem)
    tile = Extent(page.tilelength, page.tilewidth)
    layout = TileLayout(
        tile=tile,
        across=-(-page.imagewidth // tile.width),
        offsets=np.array(page.dataoffsets, np.uint64),
        counts=np.array(page.databytecounts, np.uint64),
        codec=_codec(page, tile, info),
        reductions=(),
    )
    # If the tags of all tiles are damaged, each read is a clear error. OpenSlide would allocate any
    # size that the tags state, or end the process.
    stream = _first_stream(tiff, layout)
    if not stream:
        return layout
    try:
        return replace(layout, reductions=layout.codec.reductions(stream))
    except DECODE_ERRORS as error:
        if (layout.counts > tiff.filehandle.size).any():
            return layout
        return LibraryOnly(f"has tiles that cannot be decoded: {error}")


def _first_stream(tiff: TiffFile, layout: TileLayout) -> bytes:
    """Bytes of the first tile that lies inside the file; empty without such a tile."""
    offsets, counts, size = layout.offsets, layout.counts, tiff.filehandle.size
    inside = (offsets < size) & (offsets + counts <= size)
    whole = np.flatnonzero((counts > 0) & (counts <= layout.max_bytes) & inside)
    if not len(whole):
        return b""
    tiff.filehandle.seek(int(offsets[whole[0]]))
    return bytes(tiff.filehandle.read(int(counts[whole[0]])))


def _problem(page: TiffPage, info: SourceInfo) -> str | None:
    """Name the first tag of a level's page that prevents reading it tile by tile."""
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
            "does not list an offset for each tile",
        ),
        (
            info.vendor != "aperio" or all(page.databytecounts),
            "lacks tiles, which OpenSlide draws from other levels",
        ),
    )
    return next((problem for passed, problem in checks if not passed), None)


def _codec(page: TiffPage, tile: Extent, info: SourceInfo) -> TileCodec:
    """Codec of a page without a problem."""
    match page.compression:
        case 7:
            # Bio-Formats writes the photometric tag RGB for streams whose JFIF marker means YCbCr.
            marked = (
                info.reader == "tiffslide" and page.photometric == PHOTOMETRIC.RGB and page.is_jfif
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
