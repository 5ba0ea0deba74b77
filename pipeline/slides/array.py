"""RGB array in memory as a slide of one level."""

from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.pixel_size import MppCandidates, resolve_mpp
from noctile.pipeline.slides.pyramid import PyramidReader
from noctile.pipeline.slides.source import SourceInfo

_NAME = "array"
"""Name of the slide, its format and its reader, for messages."""


class ArraySource:
    """`PixelSource` over an array.

    Args:
        pixels: uint8 ``[h, w, 3]``, RGB; it is not copied.
    """

    def __init__(self, pixels: UInt8) -> None:
        self._pixels = pixels
        extent = Extent(*pixels.shape[:2])
        self._info = SourceInfo(_NAME, _NAME, (extent,), None, None, None, None)

    @property
    def info(self) -> SourceInfo:
        """See `PixelSource.info`."""
        return self._info

    def fetch(self, level: int, box: Box) -> UInt8:
        """See `PixelSource.fetch`."""
        del level
        return self._pixels[box.slices()]

    def forget(self) -> None:
        """See `PixelSource.forget`; nothing is cached."""

    def close(self) -> None:
        """See `PixelSource.close`; nothing is open."""


def array_reader(pixels: UInt8, mpp: float | tuple[float, float]) -> PyramidReader:
    """Make a reader of an image in memory.

    Args:
        pixels: uint8 ``[h, w, 3]``, RGB.
        mpp: size of a pixel (um), or of its two sides (y, x).

    Raises:
        UsageError: if the array has another type or shape, or no pixels.
        MppImplausibleError: if the pixel size is implausible.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(
            f"an image is uint8 [h, w, 3] in RGB order; found {pixels.dtype} {list(pixels.shape)}"
        )
    user = (mpp, mpp) if isinstance(mpp, int | float) else mpp
    mpp_y, mpp_x, mpp_source = resolve_mpp(_NAME, MppCandidates(user=user))
    source = ArraySource(pixels)
    frame = Frame(source.info.extents[0], mpp_y, mpp_x)
    info = SlideInfo(
        slide_id=_NAME,
        path=Path(_NAME),
        fingerprint="",
        frame=frame,
        levels=(frame,),
        vendor=_NAME,
        reader=_NAME,
        mpp_source=mpp_source,
        compression="none",
        objective_power=None,
        bounds=frame.box,
    )
    return PyramidReader(source, info, bgr=False)
