"""JPEG tiles through libjpeg-turbo, in the colours that the TIFF tags state, also at reduced size.

libjpeg reduces to a half, a quarter or an eighth within its inverse transform. The result is the
means of the pixels of the full transform (libjpeg-turbo, jidctred.c), with one difference. If
chroma is stored at half size (4:2:0), the full decoder interpolates between its samples, and the
reducing one does not. Along an axis, a sample ``c[i]`` covers two pixels, ``(c[i-1] + 3 c[i]) / 4``
and ``(3 c[i] + c[i+1]) / 4``; their mean is ``(c[i-1] + 6 c[i] + c[i+1]) / 8``. So the means of
full pixels have softer chroma, and a network notices it: the labels of the shipped model differ in
1.0 % of the pixels. Therefore chroma is softened here too, in two cheap steps:

- Within a block of 8 x 8 samples, mirrored at its rim, that filter is a factor for each coefficient
  of the transform (`_SOFTER`). Factors for coefficients are what the quantisation tables of a
  stream hold.
- At the upper and lower rim, samples of the neighbouring block replace those of the mirror image
  (`_correct_rims`).

The difference that remains is rounding, as with 4:4:4. (tests/pipeline/slides/tiff/test_jpeg.py;
benchmarks/history/reading.md)
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
"""Factors of reduction for each chroma subsampling. Reduced pixels have a PSNR of at least 47 dB
against the means of full pixels, on BCSS regions.

4:2:2 is not among them (44, 38, 36 dB): libjpeg reduces both axes alike and repeats the missing
samples along the other axis.
"""

_SOI, _SOS, _EOI, _DQT = b"\xff\xd8", b"\xff\xda", b"\xff\xd9", b"\xff\xdb"
_FRAMES = {bytes([0xFF, kind]) for kind in range(0xC0, 0xD0) if kind not in {0xC4, 0xC8, 0xCC}}
"""Markers of frame headers of all kinds. (ITU-T T.81, table B.1)"""

_APPLICATION = {bytes([0xFF, kind]) for kind in (*range(0xE0, 0xF0), 0xFE)}
"""Markers of application segments, APP0 to APP15, and of comments. (ITU-T T.81, table B.1)"""

_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""Adobe's segment without its last byte, which is 0 for RGB and 1 for YCbCr. (Adobe TN 5116,
section 18)"""

_PASS = 0.75 + 0.25 * np.cos(np.pi * np.arange(8) / 8)
_ZIGZAG = sorted(
    range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8)
)
_SOFTER = np.outer(_PASS, _PASS).ravel()[_ZIGZAG]
"""Factor of the filter (1, 6, 1) / 8 along both axes for each coefficient of an 8 x 8 block, in the
order of a stream."""

_LUMA = np.array([0.299, 0.587, 0.114])
_EIGHTH_OF_CHROMA = ((np.eye(3) - np.outer(_LUMA, np.ones(3))) / 8).astype(np.float32)
"""Matrix from a difference of two RGB pixels to an eighth of the difference of their chroma.
(weights of luma: JFIF 1.02)"""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """`TileCodec` of JPEG streams, complete or with their tables in the tag JPEGTables.

    Attributes:
        tile: extent of a tile (px).
        tables: value of the tag JPEGTables, or b"".
        ycbcr: True if streams with three components are YCbCr, False if they are RGB. It overrides
            the markers of the stream and the guess of libjpeg.
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
            _correct_rims(pixels)
        return pixels

    def _prepared(self, stream: bytes, *, soft: bool) -> tuple[bytes, bool]:
        """Stream for libjpeg, and True if its chroma was softened."""
        offset = _first_scan(stream)
        head, softened = _head(stream[:offset], self.tables, self.ycbcr, soft)
        return b"".join((head, memoryview(stream)[offset:])), softened


@lru_cache(maxsize=256)
def _head(own: bytes, tables: bytes, ycbcr: bool, soft: bool) -> tuple[bytes, bool]:
    """Make the part of a stream before its first scan: tables, segments and colour coding.

    Args:
        own: bytes of the stream before its first scan.
        tables: see `Jpeg`.
        ycbcr: see `Jpeg`.
        soft: True to soften chroma of half size.

    Returns:
        the bytes, and True if chroma was softened.

    Raises:
        ValueError: if the segments are damaged.
    """
    found = [*_segments(tables.removesuffix(_EOI)), *_segments(own)]
    kept = [segment for segment in found if segment[:2] not in _APPLICATION]
    softened = soft and any(s[:2] in _FRAMES and _is_420(s) for s in kept)
    if softened:
        kept = _softened(kept)
    return b"".join([_SOI, *kept, _ADOBE, bytes([ycbcr])]), softened


def _first_scan(stream: bytes) -> int:
    """Find the offset of the first scan in a stream (B).

    Raises:
        ValueError: if it is no JPEG stream, or has no scan.
    """
    if stream.startswith(known := _known_start[0]):
        return len(known) - len(_SOS)
    if not stream.startswith(_SOI):
        raise ValueError("the tile is not a JPEG stream")
    offset = len(_SOI)
    while (marker := stream[offset : offset + 2]) != _SOS:
        if marker[:1] != b"\xff" or marker == _EOI:
            raise ValueError(f"the JPEG stream has no pixels, or is damaged at byte {offset}")
        offset += 2 + int.from_bytes(stream[offset + 2 : offset + 4], "big")
    _known_start[0] = stream[: offset + len(_SOS)]
    return offset


_known_start = [_SOS]
"""Start of the latest stream, up to its first scan: most tiles of a slide begin with the same
segments."""


def _segments(stream: bytes) -> Iterator[bytes]:
    """Segments of a stream without pixels, with their markers."""
    offset = len(_SOI)
    while offset < len(stream):
        stop = offset + 2 + int.from_bytes(stream[offset + 2 : offset + 4], "big")
        yield stream[offset:stop]
        offset = stop


def _is_420(frame: bytes) -> bool:
    """Test a frame header for three components, the first with twice the rows and columns."""
    return len(frame) >= 19 and (frame[9], frame[11], frame[14], frame[17]) == (3, 0x22, 0x11, 0x11)


def _softened(segments: list[bytes]) -> list[bytes]:
    """Add softer quantisation tables for the second and third component to the segments."""
    known = {
        number: table
        for segment in segments
        if segment.startswith(_DQT)
        for number, table in _tables(segment)
    }
    (index,) = (k for k, segment in enumerate(segments) if segment[:2] in _FRAMES)
    frame = bytearray(segments[index])
    free = [number for number in range(4) if number != frame[12]]
    added = []
    for component, number in zip((15, 18), free, strict=False):
        if frame[component] not in known:
            raise ValueError("the JPEG stream lacks a quantisation table")
        table = np.array(_whole(known[frame[component]] * _SOFTER), ">u2")
        added.append(
            _DQT + (3 + table.nbytes).to_bytes(2, "big") + bytes([0x10 | number]) + table.tobytes()
        )
        frame[component] = number
    return [*segments[:index], *added, bytes(frame), *segments[index + 1 :]]


def _whole(values: Float64) -> list[int]:
    """Round positive numbers to whole numbers of at least 1, and carry the relative error along.

    Tables of high quality hold mostly 2 to 5. Without the carry, rounding would leave them as they
    are (0.6 % of labels differ at quality 90 instead of 0.4 %).
    """
    whole, over = [], 0.0
    for value in values.tolist():
        whole.append(max(1, round(value * (1 - over))))
        over = min(0.5, max(-0.5, over + whole[-1] / value - 1))
    return whole


def _tables(segment: bytes) -> Iterator[tuple[int, UInt16]]:
    """Number and values (in zigzag order) of each quantisation table of a segment DQT."""
    offset = 4
    while offset < len(segment):
        wide, number = segment[offset] >> 4, segment[offset] & 15
        values = np.frombuffer(segment, ">u2" if wide else np.uint8, 64, offset + 1)
        yield number, values.astype(np.uint16)
        offset += 1 + values.nbytes


def _correct_rims(pixels: UInt8) -> None:
    """Mix an eighth of the chroma of pixels above and below the rims of 8 x 8 blocks, in place.

    The pixels left and right of a rim would cost another 20 us a tile, for 0.03 % of the labels.
    """
    # the last row of each block and the first row of the next
    rims = pixels[7:-1].reshape(-1, 8, pixels.shape[1] * 3)[:, :2]
    above, below = (rims[:, k].astype(np.int16) for k in (0, 1))
    across = np.subtract(below, above).astype(np.float32).reshape(-1, 3)
    change = across.dot(_EIGHTH_OF_CHROMA)
    mixed = np.rint(change, out=change).astype(np.int16).reshape(above.shape)
    above += mixed
    below -= mixed
    darkest, brightest = _limits(above.shape)
    for k, side in enumerate((above, below)):
        rims[:, k] = np.maximum(np.minimum(side, brightest, out=side), darkest, out=side)


@lru_cache(maxsize=8)
def _limits(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Arrays of 0 and of 255: numpy compares two arrays six times faster than array and number."""
    return np.zeros(shape, np.int16), np.full(shape, 255, np.int16)
