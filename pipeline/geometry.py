"""Extents, boxes and frames, and all arithmetic between resolutions.

A *frame* is a raster without pixels: its number of rows and columns, and the size of its pixels in
micrometres. All frames of one slide share their top left corner. A *box* is half-open and counts
the pixels of one frame. Axes are always ``y, x``. A pixel is a small square: pixel ``i`` covers
``[i, i + 1)``, and a projection of a box scales its edges.
"""

import math
from dataclasses import dataclass

SNAP_TOLERANCE = 0.02
"""Largest relative distance at which a pixel size counts as a whole multiple of the native one.

Scanners write 0.2527 or 0.499 where a model says 0.25 or 0.5. Within 2 % the pixel grid of the
slide is used, so that no pixel is interpolated. All areas are computed with the mpp of the frame,
so the figures stay exact. (decision record 0002)
"""

_EDGE = 1e-6
"""Distance from a whole pixel at which an edge counts as that pixel (px). It covers the rounding of
floats only."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a raster: its number of rows and columns (px).

    Attributes:
        height: number of rows.
        width: number of columns.

    Raises:
        ValueError: if a side is negative.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"an extent has no negative side: {self.height} x {self.width}")

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle ``[y, y + height) x [x, x + width)`` in the pixels of one frame.

    It may reach outside the frame.

    Attributes:
        y: first row.
        x: first column.
        height: number of rows.
        width: number of columns.

    Raises:
        ValueError: if a side is negative.
    """

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a box has no negative side: {self}")

    @classmethod
    def of(cls, extent: Extent) -> "Box":
        """The box that covers an extent from its origin."""
        return cls(0, 0, extent.height, extent.width)

    @property
    def extent(self) -> Extent:
        """The size of the box (px)."""
        return Extent(self.height, self.width)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def y_stop(self) -> int:
        """The first row below the box."""
        return self.y + self.height

    @property
    def x_stop(self) -> int:
        """The first column right of the box."""
        return self.x + self.width

    def intersect(self, other: "Box") -> "Box":
        """The common part of two boxes; a box without area if they have none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        y_stop, x_stop = min(self.y_stop, other.y_stop), min(self.x_stop, other.x_stop)
        return Box(y, x, max(0, y_stop - y), max(0, x_stop - x))

    def contains(self, other: "Box") -> bool:
        """True if every pixel of ``other`` lies in this box."""
        return (
            self.y <= other.y
            and self.x <= other.x
            and other.y_stop <= self.y_stop
            and other.x_stop <= self.x_stop
        )

    def shift(self, dy: int, dx: int) -> "Box":
        """The same box, moved by ``dy`` rows and ``dx`` columns."""
        return Box(self.y + dy, self.x + dx, self.height, self.width)

    def grow(self, margin: int) -> "Box":
        """The box with ``margin`` more pixels on each side."""
        return Box(
            self.y - margin, self.x - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    def slices(self, origin: "Box | None" = None) -> tuple[slice, slice]:
        """Row and column slices of this box in an array.

        Args:
            origin: box of the array, in the same frame; None: the array covers the whole frame.
        """
        dy, dx = (origin.y, origin.x) if origin else (0, 0)
        return slice(self.y - dy, self.y_stop - dy), slice(self.x - dx, self.x_stop - dx)


@dataclass(frozen=True, slots=True)
class Frame:
    """A raster without pixels: its extent and the size of a pixel.

    Attributes:
        extent: number of rows and columns (px).
        mpp_y: height of a pixel (um).
        mpp_x: width of a pixel (um).

    Raises:
        ValueError: if a pixel has no positive, finite size.
    """

    extent: Extent
    mpp_y: float
    mpp_x: float

    def __post_init__(self) -> None:
        if not all(0 < mpp < math.inf for mpp in (self.mpp_y, self.mpp_x)):
            raise ValueError(f"a pixel has a positive size: mpp_y={self.mpp_y}, mpp_x={self.mpp_x}")

    @property
    def mpp(self) -> float:
        """Geometric mean of the two pixel sides (um)."""
        return math.sqrt(self.mpp_y * self.mpp_x)

    @property
    def box(self) -> Box:
        """The box of the whole frame."""
        return Box.of(self.extent)

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel (mm2)."""
        return self.mpp_y * self.mpp_x / 1e6

    @property
    def area_mm2(self) -> float:
        """Area of the whole frame (mm2)."""
        return self.extent.area * self.pixel_area_mm2

    def coarser(self, factor: int) -> "Frame":
        """The frame whose pixels cover ``factor x factor`` pixels of this frame.

        Its extent is rounded up, so that it covers this frame completely.
        """
        return Frame(
            Extent(-(-self.extent.height // factor), -(-self.extent.width // factor)),
            self.mpp_y * factor,
            self.mpp_x * factor,
        )

    def at(self, mpp: float) -> "Frame":
        """The frame that covers the same area with pixels of ``mpp`` (um).

        If ``mpp`` is within `SNAP_TOLERANCE` of a whole multiple of both pixel sides, that multiple
        is used, and the result keeps the pixel grid of this frame and the ratio of its sides.
        Otherwise pixels are squares of ``mpp``. ``frame.at(m).at(m) == frame.at(m)``.
        """
        factor = max(1, round(mpp / self.mpp))
        if all(abs(mpp / (own * factor) - 1) <= SNAP_TOLERANCE for own in (self.mpp_y, self.mpp_x)):
            return self.coarser(factor)
        height, width = self.extent.height * self.mpp_y / mpp, self.extent.width * self.mpp_x / mpp
        return Frame(Extent(math.ceil(height - _EDGE), math.ceil(width - _EDGE)), mpp, mpp)

    def project(self, box: Box, to: "Frame") -> Box:
        """The smallest box of frame ``to`` that covers ``box`` of this frame.

        Both frames share their top left corner.
        """
        ratio_y, ratio_x = self.mpp_y / to.mpp_y, self.mpp_x / to.mpp_x
        y, x = math.floor(box.y * ratio_y + _EDGE), math.floor(box.x * ratio_x + _EDGE)
        y_stop = math.ceil(box.y_stop * ratio_y - _EDGE)
        x_stop = math.ceil(box.x_stop * ratio_x - _EDGE)
        return Box(y, x, max(0, y_stop - y), max(0, x_stop - x))
