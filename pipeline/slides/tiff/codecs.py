"""Codecs that decode one TIFF tile, through imagecodecs; `tiff.jpeg` has the codec of JPEG.

All codecs decode without the interpreter's lock. The size that a stream states is compared with the
tile's before memory is allocated. So a damaged header cannot request memory without limit.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import imagecodecs
import numpy as np
from PIL import Image

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent
from noctile.pipeline.slides.source import on_white

DECODE_ERRORS = (
    ValueError,  # simplejpeg's only error, and ours
    struct.error,
    imagecodecs.Jpeg2kError,
    imagecodecs.WebpError,
    imagecodecs.ZstdError,
    imagecodecs.ZlibError,
    imagecodecs.LzwError,
    imagecodecs.PackbitsError,
)
"""Exceptions of a `TileCodec` for bytes that it cannot decode."""

_SIZ = b"\xff\x4f\xff\x51"
"""First bytes of a JPEG 2000 codestream: SOC, SIZ. (ITU-T T.800, annex A)"""


class TileCodec(Protocol):
    """Decoder of the tiles of one level."""

    def reductions(self, stream: bytes) -> tuple[int, ...]:
        """List the factors by which tiles can be reduced while they are decoded.

        Args:
            stream: bytes of one tile of the level.

        Returns:
            factors above 1, ascending.

        Raises:
            Exception: one of `DECODE_ERRORS`, if this codec does not decode such streams.
        """
        ...

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:
        """Decode the pixels of a tile.

        Args:
            stream: bytes of the tile in the file.
            factor: factor by which the tile is reduced along each axis: 1 or one of `reductions`.
            into: buffer that the codec may use for the result, uint8
                ``[height // factor, width // factor, 3]``, contiguous.

        Returns:
            RGB on white, with the shape of ``into``; may be that array itself.

        Raises:
            Exception: one of `DECODE_ERRORS`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Jpeg2000:
    """`TileCodec` of JPEG 2000 codestreams of three 8-bit components of equal size.

    It has no reductions, because coarser wavelet levels are not means of pixels (31 to 38 dB on
    BCSS region 1008).

    Attributes:
        tile: extent of a tile (px).
    """

    tile: Extent

    def reductions(self, stream: bytes) -> tuple[int, ...]:
        """See `TileCodec`."""
        self._check_size(stream)
        return ()

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:  # noqa: ARG002 - 1
        """See `TileCodec`."""
        self._check_size(stream)
        pixels: UInt8 = imagecodecs.jpeg2k_decode(stream, numthreads=1, out=into)
        return pixels

    def _check_size(self, stream: bytes) -> None:
        if not stream.startswith(_SIZ):
            raise ValueError("the tile is not a JPEG 2000 codestream")
        x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
        check_stream_size(self.tile, y1 - y0, x1 - x0)
        # number of components, then depth - 1 and the spacing in x and in y of each
        components = struct.unpack_from(">H9B", stream, 40)
        if components != (3, 7, 1, 1, 7, 1, 1, 7, 1, 1):
            raise ValueError(
                f"JPEG 2000 components {components} are not three of 8 bits and equal size"
            )


@dataclass(frozen=True, slots=True)
class Webp:
    """`TileCodec` of WebP streams.

    Attributes:
        tile: extent of a tile (px).
    """

    tile: Extent

    def reductions(self, stream: bytes) -> tuple[int, ...]:  # noqa: ARG002 - the same for all
        """See `TileCodec`."""
        return ()

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:  # noqa: ARG002 - 1
        """See `TileCodec`."""
        pixels: UInt8 = imagecodecs.webp_decode(stream, hasalpha=False, out=into)
        return pixels


@dataclass(frozen=True, slots=True)
class Packed:
    """`TileCodec` of plain samples, packed by a codec that is not specific to images.

    Attributes:
        tile: extent of a tile (px).
        samples: number of samples in a pixel: 1 is grey, 3 is RGB, 4 is RGB and straight alpha.
        unpack: function from a stream and the number of bytes in a tile to those bytes.
        differences: True if each sample is stored as its difference from the sample left of it.
            (TIFF 6.0, section 14)
    """

    tile: Extent
    samples: int
    unpack: Callable[[bytes, int], bytes | bytearray]
    differences: bool

    def reductions(self, stream: bytes) -> tuple[int, ...]:  # noqa: ARG002 - the same for all
        """See `TileCodec`."""
        return ()

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:  # noqa: ARG002 - 1
        """See `TileCodec`."""
        count = self.tile.area * self.samples
        plain = self.unpack(stream, count)
        if len(plain) < count:
            raise ValueError(f"the tile has {len(plain)} bytes instead of {count}")
        pixels = np.frombuffer(plain, np.uint8, count).reshape(
            self.tile.height, self.tile.width, self.samples
        )
        if self.differences:
            pixels = pixels.cumsum(axis=1, dtype=np.uint8)
        if self.samples == 3:
            return pixels
        return on_white(Image.fromarray(pixels[..., 0] if self.samples == 1 else pixels))


UNPACK: dict[int, Callable[[bytes, int], bytes | bytearray]] = {
    1: lambda stream, _: stream,
    5: lambda stream, count: imagecodecs.lzw_decode(stream, out=count),
    8: lambda stream, count: imagecodecs.zlib_decode(stream, out=count),
    32946: lambda stream, count: imagecodecs.zlib_decode(stream, out=count),
    32773: lambda stream, count: imagecodecs.packbits_decode(stream, out=count),
    50000: lambda stream, count: imagecodecs.zstd_decode(stream, out=count),
}
"""Unpacking function for each value of the tag Compression: none, LZW, deflate (two values),
PackBits, zstd."""


def check_stream_size(expected: Extent, height: int, width: int) -> None:
    """Compare the size that a stream states with the size of its tile.

    Args:
        expected: extent of the tile (px).
        height: stated height (px).
        width: stated width (px).

    Raises:
        ValueError: if the sizes differ.
    """
    if (height, width) != (expected.height, expected.width):
        raise ValueError(
            f"the stream holds {height} x {width} px, not {expected.height} x {expected.width}"
        )
