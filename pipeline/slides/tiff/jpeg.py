"""JPEG tiles through libjpeg-turbo: colours as the TIFF tags say, and reduced while they are
decoded.

libjpeg reduces to a half, a quarter or an eighth within its inverse transform, and what it yields
are the means of the pixels that the full transform yields (libjpeg-turbo, jidctred.c). There is one
difference. Where chroma is stored at half size (4:2:0), the full decoder interpolates between its
samples, and the reducing one need not. Along an axis, a sample ``c[i]`` covers two pixels,
``(c[i-1] + 3 c[i]) / 4`` and ``(3 c[i] + c[i+1]) / 4``; their mean is ``(c[i-1] + 6 c[i] + c[i+1])
/ 8``. So the means of full pixels have softer chroma, and a network sees that: the labels of the
shipped model differ in 1.0 % of the pixels. Chroma is softened here too, in two steps that cost
little:

- Within a block of 8 x 8 samples, mirrored at its rim, that filter is a factor for each coefficient
  of the transform (`_SOFTER`), and a stream holds factors for coefficients: its quantisation
  tables.
- At the upper and lower rim, the neighbouring block's samples take the place of the mirror image's
  (`_mend`).

What is left is rounding, as with 4:4:4. (tests/slides/test_slide_tiled.py; benchmarks/RESULTS.md)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import simplejpeg

from noctile.pipeline.arrays import Float64, UInt8, UInt16
from noctile.pipeline.geometry import Extent
from noctile.pipeline.slides.tiff.codecs import check_stream_size

REDUCTIONS = {"Gray": (2, 4, 8), "444": (2, 4, 8), "420": (2, 4, 8)}
"""Factors to reduce by, by chroma subsampling: at least 47 dB from the means of full pixels on BCSS
regions.

4:2:2 is not among them (44, 38, 36 dB): libjpeg reduces only squarely and repeats what it lacks
along the other axis.
"""

_SOI, _SOS, _EOI, _DQT = b"\xff\xd8", b"\xff\xda", b"\xff\xd9", b"\xff\xdb"
_FRAMES = {bytes([0xFF, kind]) for kind in range(0xC0, 0xD0) if kind not in {0xC4, 0xC8, 0xCC}}
_APPLICATION = {bytes([0xFF, kind]) for kind in (*range(0xE0, 0xF0), 0xFE)}
"""Markers: frames of all kinds; APP0 to APP15 and comments. (ITU-T T.81, table B.1)"""

_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""Adobe's marker but its last byte, which says how colours are coded: 0 is RGB, 1 YCbCr. (Adobe TN
5116, section 18)"""

_PASS = 0.75 + 0.25 * np.cos(np.pi * np.arange(8) / 8)
_ZIGZAG = sorted(
    range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8)
)
_SOFTER = np.outer(_PASS, _PASS).ravel()[_ZIGZAG]
"""What (1, 6, 1) / 8 along both axes leaves of each coefficient of an 8 x 8 block, in the order of
a stream."""

_LUMA = np.array([0.299, 0.587, 0.114])
_EIGHTH_OF_CHROMA = ((np.eye(3) - np.outer(_LUMA, np.ones(3))) / 8).astype(np.float32)
"""A difference of two RGB pixels, times this, is an eighth of that of their chroma. (weights of
luma: JFIF 1.02)"""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The `TileCodec` of JPEG streams, whole ones or such whose tables stand in the tag JPEGTables.

    Attributes:
        tile: extent of a tile (px).
        tables: the tag JPEGTables, or b"".
        ycbcr: whether the colours of streams with three components are YCbCr; RGB if not. Overrides
            what the stream says, or what libjpeg would guess.
    """

    tile: Extent
    tables: bytes
    ycbcr: bool

    def reductions(self, stream: bytes) -> tuple[int, ...]:
        """See `TileCodec`."""
        height, width, _, subsampling = simplejpeg.decode_jpeg_header(
            self._prepared(stream, soft=False)[0]
        )
        check_stream_size(self.tile, height, width)
        return () if height % 16 or width % 16 else REDUCTIONS.get(subsampling, ())

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:
        """See `TileCodec`."""
        height, width, _ = into.shape
        prepared, softened = self._prepared(stream, soft=factor > 1)
        size = {"min_height": height, "min_width": width, "min_factor": factor}
        pixels: UInt8 = simplejpeg.decode_jpeg(prepared, "RGB", **size, buffer=into)
        check_stream_size(Extent(height, width), *pixels.shape[:2])
        if softened and factor == 2:
            _mend(pixels)
        return pixels

    def _prepared(self, stream: bytes, *, soft: bool) -> tuple[bytes, bool]:
        """The stream as libjpeg is to see it, and whether its chroma was softened."""
        place = _first_scan(stream)
        head, softened = _head(stream[:place], self.tables, self.ycbcr, soft)
        return b"".join((head, memoryview(stream)[place:])), softened


@lru_cache(maxsize=256)
def _head(own: bytes, tables: bytes, ycbcr: bool, soft: bool) -> tuple[bytes, bool]:
    """What stands before the first scan: tables, the stream's own segments, how colours are coded.

    Args:
        own: the stream up to its first scan.
        tables: see `Jpeg`.
        ycbcr: see `Jpeg`.
        soft: soften chroma of half size.

    Returns:
        the bytes, and whether there was chroma to soften.

    Raises:
        ValueError: if they cannot be understood.
    """
    found = [*_segments(tables.removesuffix(_EOI)), *_segments(own)]
    kept = [segment for segment in found if segment[:2] not in _APPLICATION]
    softened = soft and any(s[:2] in _FRAMES and _is_420(s) for s in kept)
    if softened:
        kept = _softened(kept)
    return b"".join([_SOI, *kept, _ADOBE, bytes([ycbcr])]), softened


def _first_scan(stream: bytes) -> int:
    """Where the first scan of a stream begins.

    Raises:
        ValueError: if no JPEG stream begins here, or it has no scan.
    """
    if stream.startswith(known := _known_start[0]):
        return len(known) - len(_SOS)
    if not stream.startswith(_SOI):
        raise ValueError("no JPEG stream begins here")
    place = len(_SOI)
    while (marker := stream[place : place + 2]) != _SOS:
        if marker[:1] != b"\xff" or marker == _EOI:
            raise ValueError(f"a JPEG stream without pixels, or damaged at byte {place}")
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    _known_start[0] = stream[: place + len(_SOS)]
    return place


_known_start = [_SOS]
"""What the latest stream had up to its first scan: most tiles of a slide begin with the same
segments."""


def _segments(stream: bytes) -> Iterator[bytes]:
    """The segments of a stream without pixels, markers included."""
    place = len(_SOI)
    while place < len(stream):
        stop = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        yield stream[place:stop]
        place = stop


def _is_420(frame: bytes) -> bool:
    """Whether a frame header says three components, the first of twice the rows and columns of the
    others.
    """
    return len(frame) >= 19 and (frame[9], frame[11], frame[14], frame[17]) == (3, 0x22, 0x11, 0x11)


def _softened(segments: list[bytes]) -> list[bytes]:
    """The same with softer tables for the second and third component."""
    of = {
        number: table
        for segment in segments
        if segment.startswith(_DQT)
        for number, table in _tables(segment)
    }
    (at,) = (k for k, segment in enumerate(segments) if segment[:2] in _FRAMES)
    frame = bytearray(segments[at])
    free = [number for number in range(4) if number != frame[12]]
    added = []
    for component, number in zip((15, 18), free, strict=False):
        if frame[component] not in of:
            raise ValueError("a JPEG stream without one of its quantisation tables")
        table = np.array(_whole(of[frame[component]] * _SOFTER), ">u2")
        added.append(
            _DQT + (3 + table.nbytes).to_bytes(2, "big") + bytes([0x10 | number]) + table.tobytes()
        )
        frame[component] = number
    return [*segments[:at], *added, bytes(frame), *segments[at + 1 :]]


def _whole(values: Float64) -> list[int]:
    """Whole numbers from 1 up, near positive ones. What one is too large (relative) the next ones
    make up for.

    Tables of high quality hold little but 2 to 5: rounded each to the nearest, they would not
    change at all (0.6 % of labels at quality 90 instead of 0.4).
    """
    whole, over = [], 0.0
    for value in values.tolist():
        whole.append(max(1, round(value * (1 - over))))
        over = min(0.5, max(-0.5, over + whole[-1] / value - 1))
    return whole


def _tables(segment: bytes) -> Iterator[tuple[int, UInt16]]:
    """Number and values, in zigzag order, of each table of a segment DQT."""
    place = 4
    while place < len(segment):
        wide, number = segment[place] >> 4, segment[place] & 15
        values = np.frombuffer(segment, ">u2" if wide else np.uint8, 64, place + 1)
        yield number, values.astype(np.uint16)
        place += 1 + values.nbytes


def _mend(pixels: UInt8) -> None:
    """Let pixels above and below the rim of blocks of 8 x 8 exchange an eighth of their chroma, in
    place.

    Those left and right of it would cost the same 20 us a tile again, for 0.03 % of the labels.
    """
    rims = pixels[7:-1].reshape(-1, 8, pixels.shape[1] * 3)[
        :, :2
    ]  # the last row of a block and the next one's first
    above, below = (rims[:, k].astype(np.int16) for k in (0, 1))
    across = np.subtract(below, above).astype(np.float32).reshape(-1, 3)
    change = across.dot(_EIGHTH_OF_CHROMA)
    exchanged = np.rint(change, out=change).astype(np.int16).reshape(above.shape)
    above += exchanged
    below -= exchanged
    darkest, brightest = _limits(above.shape)
    for k, side in enumerate((above, below)):
        rims[:, k] = np.maximum(np.minimum(side, brightest, out=side), darkest, out=side)


@lru_cache(maxsize=8)
def _limits(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """All 0, and all 255: numpy takes the smaller of two arrays six times faster than that of an
    array and a number.
    """
    return np.zeros(shape, np.int16), np.full(shape, 255, np.int16)
