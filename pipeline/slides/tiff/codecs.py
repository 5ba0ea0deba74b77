"""From the bytes of one TIFF tile to its pixels, by codecs of imagecodecs;
`noctile.pipeline.slides.tiff.jpeg` has the one for JPEG.

Both decode without the interpreter's lock. What a stream says of its size is held against the
tile's before anything is allocated, so that a damaged header cannot ask for memory without bounds.
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
"""What a `TileCodec` raises on bytes that it cannot decode."""

_SIZ = b"\xff\x4f\xff\x51"
"""What a JPEG 2000 codestream begins with: SOC, SIZ. (ITU-T T.800, annex A)"""


class TileCodec(Protocol):
    """Decodes the tiles of one level."""

    def reductions(self, stream: bytes) -> tuple[int, ...]:
        """What tiles can be reduced by while they are decoded.

        Args:
            stream: one of the level's.

        Returns:
            factors above 1, ascending.

        Raises:
            Exception: one of `DECODE_ERRORS`, if streams such as this are not for this codec.
        """
        ...

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:
        """The pixels of a tile.

        Args:
            stream: the tile as it stands in the file.
            factor: how many of its pixels make one, along each axis: 1 or one of `reductions`.
            into: where they may be put, uint8 ``[height // factor, width // factor, 3]``,
                contiguous.

        Returns:
            RGB on white, of the shape of ``into`` and maybe that array itself.

        Raises:
            Exception: one of `DECODE_ERRORS`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Jpeg2000:
    """JPEG 2000 codestreams of three 8-bit components of equal size.

    Coarser wavelet levels are no means of pixels (31 to 38 dB on BCSS region 1008), so that nothing
    is reduced.

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
            raise ValueError("no JPEG 2000 codestream begins here")
        x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
        check_stream_size(self.tile, y1 - y0, x1 - x0)
        components = struct.unpack_from(
            ">H9B", stream, 40
        )  # how many, then depth - 1, spacing in x and in y of each
        if components != (3, 7, 1, 1, 7, 1, 1, 7, 1, 1):
            raise ValueError(
                f"JPEG 2000 components {components} are not three of 8 bits and equal size"
            )


@dataclass(frozen=True, slots=True)
class Webp:
    """WebP streams.

    Attributes:
        tile: extent of a tile (px).
    """

    tile: Extent

    def reductions(self, stream: bytes) -> tuple[int, ...]:  # noqa: ARG002 - whatever it is
        """See `TileCodec`."""
        return ()

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:  # noqa: ARG002 - 1
        """See `TileCodec`."""
        pixels: UInt8 = imagecodecs.webp_decode(stream, hasalpha=False, out=into)
        return pixels


@dataclass(frozen=True, slots=True)
class Packed:
    """Samples one after another, packed by a codec that knows nothing of images.

    Attributes:
        tile: extent of a tile (px).
        samples: of a pixel: 1 is grey, 3 RGB, 4 RGB and its opacity (not multiplied in).
        unpack: the codec: from a stream and the number of bytes in a tile to those bytes.
        differences: whether a sample is stored as its difference from the one left of it. (TIFF
            6.0, section 14)
    """

    tile: Extent
    samples: int
    unpack: Callable[[bytes, int], bytes | bytearray]
    differences: bool

    def reductions(self, stream: bytes) -> tuple[int, ...]:  # noqa: ARG002 - whatever it is
        """See `TileCodec`."""
        return ()

    def decode(self, stream: bytes, factor: int, into: UInt8) -> UInt8:  # noqa: ARG002 - 1
        """See `TileCodec`."""
        count = self.tile.area * self.samples
        plain = self.unpack(stream, count)
        if len(plain) < count:
            raise ValueError(f"{len(plain)} bytes, where a tile has {count}")
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
"""By the value of the tag Compression: none, LZW, deflate (two numbers for it), PackBits, zstd."""


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
