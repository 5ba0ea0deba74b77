"""Open file of one reader library: its description and its pixels, in that library's own levels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box, Extent

WHITE = 255
"""Grey level outside the slide and under transparent pixels."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """Coarser level that a source makes of a level of the file while it decodes that level.

    This takes less work than to read the level and to average its pixels.

    Attributes:
        level: index of the level of the file.
        factor: number of pixels of that level in one pixel, along each axis. Pixels at the end that
            do not fill one are left out.
    """

    level: int
    factor: int


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Description of a file by its reader library.

    Attributes:
        reader: name of the library.
        vendor: scanner or format family.
        extents: extents of all levels (px), finest first.
        mpp: pixel size of level 0 (um; y, x), or None.
        objective_power: nominal magnification, or None.
        bounds: scanned part of level 0 (px), or None.
        compression: codec of level 0, or None.
        reductions: further levels that can be fetched. Their indexes follow those of the file's
            levels.
    """

    reader: str
    vendor: str
    extents: tuple[Extent, ...]
    mpp: tuple[float, float] | None
    objective_power: float | None
    bounds: Box | None
    compression: str | None
    reductions: tuple[Reduction, ...] = ()

    @property
    def scanned(self) -> Box:
        """The bounds, cut to level 0; all of level 0 without bounds that touch it."""
        whole = Box.of(self.extents[0])
        cut = (self.bounds or whole).intersect(whole)
        return cut if cut.area else whole


class PixelSource(Protocol):
    """One open file of one reader library. Several threads may use it at once."""

    @property
    def info(self) -> SourceInfo:
        """Description of the file by the library."""
        ...

    def fetch(self, level: int, box: Box) -> UInt8:
        """Read pixels of a level, as they are in the file.

        Args:
            level: index of the level; after the levels of the file follow ``info.reductions``.
            box: region in pixels of the level, inside the level and not empty.

        Returns:
            RGB on white, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the pixels cannot be decoded.
        """
        ...

    def forget(self) -> None:
        """Drop cached pixels: the next ones come from other parts of the slide."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def on_white(image: Image.Image) -> UInt8:
    """Convert an image of mode L, RGB or RGBA to RGB on white, uint8 ``[h, w, 3]``."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (WHITE, WHITE):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def positive_number(value: object) -> float | None:
    """Convert a property to a number; None unless it is a finite number above 0."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def bounds_from(properties: Mapping[str, object], prefix: str) -> Box | None:
    """Find the bounds in a library's properties; None unless all four are whole numbers.

    Args:
        properties: properties of the slide, by name.
        prefix: library name in front of each property name.
    """
    names = ("y", "x", "height", "width")
    values = [str(properties.get(f"{prefix}.bounds-{name}")) for name in names]
    if not all(value.isdecimal() and len(value) < 16 for value in values):
        return None
    return Box(*map(int, values))


def decode_error(slide_id: str, level: int, box: Box, error: Exception) -> SlideReadError:
    """Make the error for pixels that a library cannot decode."""
    reason = str(error) or type(error).__name__
    return SlideReadError(
        f"slide {slide_id}: level {level}, rows {box.y} to {box.y_stop}, columns {box.x} to "
        f"{box.x_stop} cannot be decoded: {reason}. The file is damaged or cut short there: copy "
        "it again from where it was scanned or archived, or leave it out"
    )
