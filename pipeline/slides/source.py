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
    """A level that the file does not hold, but that a source yields for less work than the level it
    is made from.

    Attributes:
        level: index of the level of the file.
        factor: how many of its pixels make one, along each axis; those that do not fill one are
            left out.
    """

    level: int
    factor: int


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a reader library says of a file.

    Attributes:
        reader: which library.
        vendor: scanner or format family.
        extents: of all levels (px), finest first.
        mpp: of level 0 (um; y, x), or None.
        objective_power: nominal magnification, or None.
        bounds: the part of level 0 that was scanned (px), or None.
        compression: codec of level 0, or None.
        reductions: further levels to fetch from, counted on from those of the file.
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
        """The bounds, cut to level 0; all of level 0 where the file has none, or none that touch
        it.
        """
        whole = Box.of(self.extents[0])
        cut = (self.bounds or whole).intersect(whole)
        return cut if cut.area else whole


class PixelSource(Protocol):
    """One open file of one reader library. Safe to call from several threads."""

    @property
    def info(self) -> SourceInfo:
        """What the library says of the file."""
        ...

    def fetch(self, level: int, box: Box) -> UInt8:
        """Pixels of a level, uint8 ``[box.height, box.width, 3]``, RGB on white.

        Args:
            level: its index; those behind the levels of the file are ``info.reductions``.
            box: in the level's own pixels, inside the level, not empty.

        Raises:
            SlideReadError: if they cannot be decoded.
        """
        ...

    def forget(self) -> None:
        """Forget which pixels were fetched so far: those that come have nothing to do with them."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def on_white(image: Image.Image) -> UInt8:
    """An image of mode L, RGB or RGBA as uint8 ``[h, w, 3]``; what is transparent shows white."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (WHITE, WHITE):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def positive_number(value: object) -> float | None:
    """A property as a number; None unless it is one, finite and above 0."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def bounds_from(said: Mapping[str, object], prefix: str) -> Box | None:
    """The bounds that a reader's properties state, or None if they do not state all four of them as
    whole numbers.
    """
    values = [str(said.get(f"{prefix}.bounds-{name}")) for name in ("y", "x", "height", "width")]
    if not all(value.isdecimal() and len(value) < 16 for value in values):
        return None
    return Box(*map(int, values))


def decode_error(slide_id: str, level: int, box: Box, error: Exception) -> SlideReadError:
    """The error for pixels that a library cannot decode."""
    return SlideReadError(
        f"slide {slide_id}: level {level}, rows {box.y} to {box.y_stop}, columns {box.x} to {box.x_stop} cannot be "
        f"decoded: {error or type(error).__name__}. The file is damaged or cut short there: copy it again from where "
        "it was scanned or archived, or leave it out"
    )
