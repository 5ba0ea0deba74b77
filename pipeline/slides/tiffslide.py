"""Pixels through tiffslide: TIFF files that OpenSlide does not know, mostly OME-TIFF."""

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC, TiffPage
from tiffslide import TiffSlide

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideOpenError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.image import MAX_PIXELS, claimed_pixels
from noctile.pipeline.slides.source import (
    WHITE,
    SourceInfo,
    bounds_from,
    decode_error,
    on_white,
    positive_number,
)
from noctile.pipeline.slides.tiff.tags import TIFF_ERRORS

_COLOURS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.MINISBLACK)


class TiffSlideSource:
    """`PixelSource` over a TiffSlide.

    One thread reads at a time, because tiffslide does not document that it supports several.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.

    Raises:
        SlideOpenError: if tiffslide cannot open the file, or its pixels are not 8-bit grey or RGB.
    """

    def __init__(self, path: Path, slide_id: str) -> None:
        self._slide_id = slide_id
        self._lock = threading.Lock()
        try:
            self._slide = _LevelSlide(path)
        except (OSError, *TIFF_ERRORS) as error:
            raise _unopenable(path, slide_id, error) from error
        try:
            self.info = _source_info(self._slide)
            _check_pixels(self._slide)
        except (OSError, *TIFF_ERRORS) as error:
            self._slide.close()
            raise _unopenable(path, slide_id, error) from error

    def fetch(self, level: int, box: Box) -> UInt8:
        """Read pixels of a level, RGB on white, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the pixels cannot be decoded.
        """
        try:
            with self._lock:
                pixels = self._slide.read_region(
                    (box.x, box.y), level, (box.width, box.height), as_array=True
                )
        except (OSError, *TIFF_ERRORS) as error:
            raise decode_error(self._slide_id, level, box, error) from error
        pixels = np.ascontiguousarray(pixels)
        return on_white(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))

    def forget(self) -> None:
        """Do nothing: no pixels are cached."""

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


class _LevelSlide(TiffSlide):
    """TiffSlide whose locations are pixels of the level, not of level 0.

    So no location is divided by a downsample that is not quite whole.
    """

    def _read_region_loc_transform(self, location: tuple[int, int], level: int) -> tuple[int, int]:  # noqa: ARG002 - its signature
        return location


def _source_info(slide: TiffSlide) -> SourceInfo:
    with warnings.catch_warnings(action="ignore"):  # tiffslide parses some metadata only in part
        found = slide.properties
    mpp_y, mpp_x = (
        positive_number(found.get("tiffslide.mpp-y")),
        positive_number(found.get("tiffslide.mpp-x")),
    )
    return SourceInfo(
        reader="tiffslide",
        vendor=found.get("tiffslide.vendor") or "generic-tiff",
        extents=tuple(Extent(height, width) for width, height in slide.level_dimensions),
        mpp=(mpp_y, mpp_x) if mpp_y and mpp_x else None,
        objective_power=positive_number(found.get("tiffslide.objective-power")),
        bounds=bounds_from(found, "tiffslide"),
        compression=None,
    )


def _check_pixels(slide: TiffSlide) -> None:
    """Check that the pixels of every level are 8-bit grey, RGB or RGBA; make missing tiles white.

    Raises:
        ValueError: if they are not.
    """
    series = slide.ts_tifffile.series[slide.properties["tiffslide.series-index"]]
    for level in series.levels:
        sizes = dict(zip(level.axes, level.shape, strict=True))
        samples, colour = sizes.get("S", sizes.get("C", 1)), level.keyframe.photometric
        bits = level.keyframe.bitspersample
        if (
            (level.dtype, bits) != (np.uint8, 8)
            or samples not in {1, 3, 4}
            or colour not in _COLOURS
        ):
            raise ValueError(
                f"its pixels are {samples} x {level.dtype} of {bits} bits, {colour!r}, but only "
                "8-bit grey or RGB is read"
            )
        level.keyframe.nodata = WHITE  # tifffile fills tiles without bytes with it
        _limit_page(level.keyframe, slide.ts_tifffile.filehandle.size)


def _limit_page(page: TiffPage, file_bytes: int) -> None:
    """Make a page refuse each tile or strip whose stream claims more pixels than its tags state.

    Args:
        page: page of a level; its method ``decode`` is replaced.
        file_bytes: size of the file (B).

    Raises:
        ValueError: if the tags state more pixels or bytes than are possible.
    """
    height, width = page.chunks[:2] if page.planarconfig == 1 else page.chunks[-2:]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"its tiles or strips have {width} x {height} px, more than {MAX_PIXELS} together"
        )
    if max(page.databytecounts, default=0) > file_bytes:
        raise ValueError(
            f"a tile or strip of {max(page.databytecounts)} bytes is larger than the file "
            f"({file_bytes})"
        )
    decode = page.decode

    def limited(data: bytes | None, *arguments: Any, **options: Any) -> Any:
        claimed = claimed_pixels(data) if data else 0
        if claimed > height * width:
            raise ValueError(
                f"a stream claims {claimed} px where a tile or strip has {height * width}"
            )
        return decode(data, *arguments, **options)

    page.decode = limited


def _unopenable(path: Path, slide_id: str, error: Exception) -> SlideOpenError:
    return SlideOpenError(
        f"slide {slide_id}: OpenSlide does not read {path}, and tiffslide cannot open it: "
        f"{str(error) or type(error).__name__}. Convert it to a tiled 8-bit RGB TIFF with JPEG "
        "compression"
    )
