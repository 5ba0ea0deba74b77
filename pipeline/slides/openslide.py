"""Pixels through OpenSlide: formats of scanner vendors, DICOM and generic tiled TIFF."""

import itertools
import threading
from pathlib import Path

import numpy as np
from openslide import OpenSlide, OpenSlideError

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideOpenError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.source import (
    SourceInfo,
    bounds_from,
    decode_error,
    on_white,
    positive_number,
)

_CELL_PX = 512
"""Side of the cells in which a level with a fractional downsample is read (px of the level)."""

_DICOM_CODECS = {
    "1.2.840.10008.1.2": "none",
    "1.2.840.10008.1.2.1": "none",
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.90": "jpeg2000",
    "1.2.840.10008.1.2.4.91": "jpeg2000",
}
"""Transfer syntaxes of whole-slide images. (DICOM PS3.6, table A-1)"""


class OpenSlideSource:
    """`PixelSource` over an OpenSlide handle, which several threads may use at once.

    OpenSlide takes a position in level-0 pixels, divides it by the level's downsample, and
    interpolates if the result lies between two pixels. With a downsample such as 4.0049 it nearly
    always does, and a pixel would depend on the start of the read (by up to 28 grey levels on a
    synthetic texture). Such levels are read in cells of a fixed grid. So each pixel is the same in
    every read, and at most half a level-0 pixel away from its position.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.

    Raises:
        SlideOpenError: if OpenSlide cannot open the file.
    """

    def __init__(self, path: Path, slide_id: str) -> None:
        self._path, self._slide_id = path, slide_id
        self._lock = threading.Lock()
        self._slide = self._open()
        self.info = _source_info(self._slide)
        self._downsamples = self._slide.level_downsamples

    def fetch(self, level: int, box: Box) -> UInt8:
        """Read pixels of a level, RGB on white, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the pixels cannot be decoded.
        """
        if self._downsamples[level].is_integer():
            return self._read(level, box)
        out = np.empty((box.height, box.width, 3), np.uint8)
        for cell in _cells(box, self.info.extents[level]):
            part = cell.intersect(box)
            out[part.slices(box)] = self._read(level, cell)[part.slices(cell)]
        return out

    def forget(self) -> None:
        """Do nothing: OpenSlide has its own cache."""

    def close(self) -> None:
        """Release the handle."""
        self._slide.close()

    def _read(self, level: int, box: Box) -> UInt8:
        slide, scale = self._slide, self._downsamples[level]
        try:
            image = slide.read_region(
                (round(box.x * scale), round(box.y * scale)), level, (box.width, box.height)
            )
        except OpenSlideError as error:
            self._replace(slide)
            raise decode_error(self._slide_id, level, box, error) from error
        return on_white(image)

    def _replace(self, failed: OpenSlide) -> None:
        """Open a new handle for the next read: after one error, each call of a handle fails."""
        with self._lock:
            if self._slide is failed:
                self._slide = self._open()

    def _open(self) -> OpenSlide:
        try:
            return OpenSlide(self._path)
        except OpenSlideError as error:
            raise SlideOpenError(
                f"slide {self._slide_id}: OpenSlide knows the format of {self._path} but cannot "
                f"open it: {error}. Copy the file again if it is damaged; otherwise convert it to "
                "a tiled TIFF with JPEG compression"
            ) from error


def _source_info(slide: OpenSlide) -> SourceInfo:
    found = slide.properties  # no copy: a name in it that is not text cannot be looked up
    mpp_y, mpp_x = (
        positive_number(found.get("openslide.mpp-y")),
        positive_number(found.get("openslide.mpp-x")),
    )
    return SourceInfo(
        reader="openslide",
        vendor=found.get("openslide.vendor", "unknown"),
        extents=tuple(Extent(height, width) for width, height in slide.level_dimensions),
        mpp=(mpp_y, mpp_x) if mpp_y and mpp_x else None,
        objective_power=positive_number(found.get("openslide.objective-power")),
        bounds=bounds_from(found, "openslide"),
        compression=_DICOM_CODECS.get(found.get("dicom.TransferSyntaxUID", "")),
    )


def _cells(box: Box, extent: Extent) -> list[Box]:
    """Cells of the level's fixed grid that touch a box, cut to the level."""
    ys = range(box.y // _CELL_PX * _CELL_PX, box.y_stop, _CELL_PX)
    xs = range(box.x // _CELL_PX * _CELL_PX, box.x_stop, _CELL_PX)
    return [
        Box(y, x, _CELL_PX, _CELL_PX).intersect(Box.of(extent))
        for y, x in itertools.product(ys, xs)
    ]
