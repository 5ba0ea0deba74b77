"""Tags of the largest image of a TIFF file: its codec and its pixel size."""

import logging
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import tifffile

Rational = tuple[int, int]
"""Numerator and denominator, as TIFF stores XResolution and YResolution."""

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF, in both byte orders. (TIFF 6.0, section 2; BigTIFF, libtiff)"""

_UM_PER_UNIT = {2: ("inch", 25_400.0), 3: ("centimeter", 10_000.0)}
"""ResolutionUnit: 2 is inch (also where the tag is missing), 3 is centimeter; 1 is no unit. (TIFF
6.0, page 38)"""

_INCH = 2

_CODECS = {
    1: "none",
    5: "lzw",
    6: "jpeg",
    7: "jpeg",
    8: "deflate",
    32946: "deflate",
    32773: "packbits",
    33003: "jpeg2000",
    33004: "jpeg2000",
    33005: "jpeg2000",
    34712: "jpeg2000",
    34925: "lzma",
    22610: "jpegxr",
    34934: "jpegxr",
    50000: "zstd",
    50001: "webp",
    50002: "jpegxl",
    52546: "jpegxl",
}
"""Names of Compression values; 33003 to 33005 are Aperio's."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())
"""Without a handler, tifffile prints a line for each tag that it does not understand: 69,000 lines
for a folder of 1,000 damaged files. The errors of this package state the consequences."""

NO_RESOLUTION = "no TIFF resolution tags"

TIFF_ERRORS = (
    tifffile.TiffFileError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,  # a tag that claims more bytes than there are
    RuntimeError,  # NotImplementedError: axes that tiffslide does not know; RecursionError
    StopIteration,
    SyntaxError,  # XML that does not parse
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions of tifffile, tiffslide and their parsers for files that they do not understand, beside
OSError."""


@dataclass(frozen=True, slots=True)
class TiffTags:
    """Tags of the largest image of a TIFF file.

    Attributes:
        compression: name of the image's codec.
        mpp: pixel size in the resolution tags (um; y, x), or None.
        resolution_text: resolution tags in words, for messages.
        bits: number of bits of a sample; 8 if it is unknown.
    """

    compression: str
    mpp: tuple[float, float] | None
    resolution_text: str
    bits: int = 8


def is_tiff(path: Path) -> bool:
    """Test for the first bytes of TIFF or BigTIFF.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def read_tags(path: Path) -> TiffTags:
    """Read the tags of the largest image of a TIFF file.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page = max(
                (page.aspage() for page in tiff.pages),
                key=lambda page: page.imagelength * page.imagewidth,
            )
            x, y = page.tags.valueof("XResolution"), page.tags.valueof("YResolution")
            unit = int(page.tags.valueof("ResolutionUnit", _INCH))
            code, bits = int(page.compression), int(page.bitspersample)
    except TIFF_ERRORS as error:
        return TiffTags("unknown", None, f"TIFF tags that cannot be read ({error})")
    codec = _CODECS.get(code, f"TIFF compression {code}")
    if x is None or y is None:
        return TiffTags(codec, None, NO_RESOLUTION, bits)
    if not all(
        isinstance(side, tuple) and [type(part) for part in side] == [int, int] for side in (y, x)
    ):
        text = f"TIFF resolution tags that are no rational numbers ({y!r:.40}, {x!r:.40})"
        return TiffTags(codec, None, text, bits)
    name = _UM_PER_UNIT.get(unit, ("none", 0.0))[0]
    text = f"TIFF tags XResolution {x[0]}/{x[1]}, YResolution {y[0]}/{y[1]}, ResolutionUnit {name}"
    return TiffTags(codec, mpp_from_resolution(y, x, unit), text, bits)


def mpp_from_resolution(y: Rational, x: Rational, unit: int) -> tuple[float, float] | None:
    """Compute the pixel size from the resolution tags.

    Args:
        y: YResolution (pixels per unit).
        x: XResolution (pixels per unit).
        unit: ResolutionUnit: 1 is no unit, 2 is inch, 3 is centimeter.

    Returns:
        pixel size (um; y, x); None if a rational is 0 or infinite, or has no unit.
    """
    if unit not in _UM_PER_UNIT or not all(part > 0 for part in (*y, *x)):
        return None
    um = _UM_PER_UNIT[unit][1]
    mpp = um * y[1] / y[0], um * x[1] / x[0]
    return mpp if all(map(math.isfinite, mpp)) else None
