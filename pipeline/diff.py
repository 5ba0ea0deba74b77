"""Comparison of two label maps of a slide, pixel by pixel on the grid of one of them.

The label maps may differ in pixel size, size, bounds, classes and codes. A pixel of the grid takes
the label of the other map that lies under its centre. Classes are matched by name, and the tumor
by the role of the classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from noctile.pipeline.agreement import dice
from noctile.pipeline.arrays import Int64, UInt8
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.models.card import ClassInfo

Alignment = Literal["level0", "physical"]
"""Coordinates in which two label maps are compared: level-0 pixels of the same file, or um from the
corner of the scanned region, for two files of the same slide."""

CHANGE_CLASSES = (
    ClassInfo(code=1, name="tumor_in_both", color=(94, 60, 153), role="tumor"),
    ClassInfo(code=2, name="only_in_a", color=(230, 97, 1), role="tumor"),
    ClassInfo(code=3, name="only_in_b", color=(0, 114, 178), role="tumor"),
    ClassInfo(code=4, name="no_tumor", color=(190, 190, 190), role="tissue"),
)
"""Classes of a change map: tumor in both results, in one of them, and analysed without tumor."""

_BOTH, _ONLY_A, _ONLY_B, _NO_TUMOR = (info.code for info in CHANGE_CLASSES)

CHANGED = (_ONLY_A, _ONLY_B)
"""Codes of a change map on whose pixels the two results disagree about tumor."""

_SAME_SIZE = 0.02
"""Largest relative difference of two pixel sizes that count as the same."""

_STRIP_PX = 2**18
"""Number of pixels that are counted at once, so that they stay in the cache of a processor."""

_EDGE = 1e-6
"""Distance from a pixel's edge that is taken for rounding (px)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of a label map in coordinates that it shares with another one.

    Attributes:
        frame: frame of the label map.
        scale: height and width of one of its pixels, in the shared unit.
        origin: y and x of its top left corner, in the shared unit.
    """

    frame: Frame
    scale: tuple[float, float]
    origin: tuple[float, float]


def place(
    frame: Frame, mpp: tuple[float, float], bounds: tuple[float, float], alignment: Alignment
) -> Placement:
    """Place a label map in shared coordinates.

    Args:
        frame: frame of the label map.
        mpp: height and width of a level-0 pixel of the slide (um).
        bounds: y and x of the scanned region in level 0 of the slide's file (px).
        alignment: coordinates to use.
    """
    if alignment == "physical":
        return Placement(frame, (frame.mpp_y, frame.mpp_x), (0.0, 0.0))
    return Placement(frame, (frame.mpp_y / mpp[0], frame.mpp_x / mpp[1]), bounds)


def grid_is_first(a: Placement, b: Placement) -> bool:
    """Tell if the first of two label maps gives the grid: b gives it only if b is coarser."""
    area_a, area_b = (p.scale[0] * p.scale[1] for p in (a, b))
    return area_b <= area_a * (1 + _SAME_SIZE) ** 2


def pixels_under(grid: Placement, other: Placement) -> tuple[Int64, Int64]:
    """Rows and columns of another label map under the centres of the grid's rows and columns.

    Args:
        grid: label map that gives the grid.
        other: the other label map.

    Returns:
        int64 ``[grid height]`` and ``[grid width]``, ascending; -1 outside the other label map.
    """
    grid_shape, shape = ((p.frame.extent.height, p.frame.extent.width) for p in (grid, other))
    rows, cols = (
        _under(grid_shape[k], shape[k], grid.scale[k], grid.origin[k], other.scale[k], origin)
        for k, origin in enumerate(other.origin)
    )
    return rows, cols


def _under(
    n: int, length: int, scale: float, origin: float, other_scale: float, other_origin: float
) -> Int64:
    centres = (np.arange(n) + 0.5) * scale + (origin - other_origin)
    index = np.floor(centres / other_scale + _EDGE).astype(np.int64)
    return np.where((index >= 0) & (index < length), index, -1)


def frame_under(grid: Placement, other: Placement) -> Box:
    """Smallest box of another label map that holds all of its pixels under the grid's frame."""
    extent = grid.frame.extent
    (y, y_stop), (x, x_stop) = (
        (
            max(0, math.floor(_position(grid, other, 0, axis) + _EDGE)),
            max(0, math.ceil(_position(grid, other, n, axis) - _EDGE)),
        )
        for axis, n in enumerate((extent.height, extent.width))
    )
    return Box(y, x, max(0, y_stop - y), max(0, x_stop - x)).intersect(other.frame.box)


def _position(grid: Placement, other: Placement, at: int, axis: int) -> float:
    """Position of a pixel edge of the grid along an axis, in pixels of another label map."""
    shared = at * grid.scale[axis] + grid.origin[axis]
    return (shared - other.origin[axis]) / other.scale[axis]


def covered_box(rows: Int64, cols: Int64) -> Box:
    """Smallest box of the other label map that holds all pixels under some of the grid's.

    Args:
        rows: rows of the other label map, or -1; see `pixels_under`.
        cols: columns of the other label map, or -1.
    """
    (y, y_stop), (x, x_stop) = (_span(index) for index in (rows, cols))
    return Box(y, x, y_stop - y, x_stop - x)


def _span(index: Int64) -> tuple[int, int]:
    inside = index[index >= 0]
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


def labels_under(labels: UInt8, box: Box, rows: Int64, cols: Int64) -> UInt8:
    """Labels of the other label map on a part of the grid; 0 outside that label map.

    Args:
        labels: uint8 ``[box.height, box.width]``, labels of the other label map.
        box: their position; it holds all rows and columns that are asked for.
        rows: row of the other label map for each row of the part, or -1.
        cols: column of the other label map for each column of the part, or -1.

    Returns:
        uint8 ``[len(rows), len(cols)]``.
    """
    under = np.zeros((len(rows), len(cols)), np.uint8)
    has_row, has_col = rows >= 0, cols >= 0
    if not (has_row.any() and has_col.any()):
        return under
    inside = _range(has_row), _range(has_col)
    picked = labels[rows[has_row] - box.y]
    under[inside] = picked if _is_run(cols, box) else picked[:, cols[has_col] - box.x]
    return under


def _range(flags: npt.NDArray[np.bool_]) -> slice:
    """Slice of the only run of True values."""
    first = int(flags.argmax())
    return slice(first, first + int(np.count_nonzero(flags)))


def _is_run(cols: Int64, box: Box) -> bool:
    """Tell if columns are exactly those of a box, one after the other."""
    inside = cols[cols >= 0]
    return len(inside) == box.width and int(inside[0]) == box.x


class PairCounter:
    """Counts of pairs of labels on the grid, and the change map.

    Args:
        a: classes of the first label map.
        b: classes of the second label map.

    Attributes:
        pixels: int64 ``[len(a) + 1, len(b) + 1]``, number of pixels with each pair of classes;
            row 0 and column 0 stand for 'not analysed'.
    """

    def __init__(self, a: Sequence[ClassInfo], b: Sequence[ClassInfo]) -> None:
        self.pixels: Int64 = np.zeros((len(a) + 1, len(b) + 1), np.int64)
        self._a, self._b = _positions(a) * (len(b) + 2), _positions(b)
        self._shape = len(a) + 2, len(b) + 2
        self._change = _change_codes(a, b).ravel()

    def add(self, a: UInt8, b: UInt8) -> UInt8:
        """Count the pixels of a part of the grid.

        Args:
            a: uint8 ``[h, w]``, labels of the first label map.
            b: uint8 ``[h, w]``, labels of the second label map.

        Returns:
            uint8 ``[h, w]``, codes of `CHANGE_CLASSES`; 0 where none was analysed.

        Raises:
            ValueError: if a label is no class of its label map.
        """
        change = np.zeros(a.shape, np.uint8)
        counts = np.zeros(self._shape[0] * self._shape[1], np.int64)
        rows = max(1, _STRIP_PX // max(1, a.shape[1]))
        for y in range(0, len(a), rows):
            strip = slice(y, y + rows)
            pair = self._a[a[strip]] + self._b[b[strip]]
            counts += np.bincount(pair.ravel(), minlength=len(counts))
            self._change.take(pair, out=change[strip])
        found = counts.reshape(self._shape)
        for name, unknown in (("first", found[-1]), ("second", found[:, -1])):
            if unknown.any():
                raise ValueError(f"the {name} label map has labels that are none of its classes")
        self.pixels += found[:-1, :-1]
        return change


def _positions(classes: Sequence[ClassInfo]) -> Int64:
    """Position of each label: 0 for 0, from 1 on for the classes, and one more for no class."""
    positions = np.full(256, len(classes) + 1, np.int64)
    positions[0] = 0
    for k, info in enumerate(classes):
        positions[info.code] = k + 1
    return positions


def _change_codes(a: Sequence[ClassInfo], b: Sequence[ClassInfo]) -> UInt8:
    """Code of the change map for each pair of positions."""
    in_a, in_b = (np.array([False, *(c.role == "tumor" for c in k), False]) for k in (a, b))
    codes = np.full((len(in_a), len(in_b)), _NO_TUMOR, np.uint8)
    codes[in_a] = _ONLY_A
    codes[:, in_b] = np.where(in_a[:, None], _BOTH, _ONLY_B)
    codes[0, 0] = 0
    return codes


@dataclass(frozen=True)
class PairCounts:
    """Figures that follow from the counts of pairs of labels.

    Attributes:
        a: classes of the first label map.
        b: classes of the second label map.
        pixels: see `PairCounter.pixels`.
    """

    a: tuple[ClassInfo, ...]
    b: tuple[ClassInfo, ...]
    pixels: Int64

    @property
    def analysed_in_both(self) -> int:
        """Number of pixels that both label maps analysed."""
        return int(self.pixels[1:, 1:].sum())

    @property
    def analysed_only_in_a(self) -> int:
        """Number of pixels that the first label map alone analysed."""
        return int(self.pixels[1:, 0].sum())

    @property
    def analysed_only_in_b(self) -> int:
        """Number of pixels that the second label map alone analysed."""
        return int(self.pixels[0, 1:].sum())

    @property
    def common(self) -> list[str]:
        """Names of the classes that both label maps have, in the order of the first."""
        names = {info.name for info in self.b}
        return [info.name for info in self.a if info.name in names]

    @cached_property
    def tumor(self) -> tuple[int, int, int]:
        """Number of tumor pixels in both label maps, in the first, and in the second."""
        roles = ([False, *(c.role == "tumor" for c in side)] for side in (self.a, self.b))
        return self._overlap(*roles)

    def of_class(self, name: str) -> tuple[int, int, int]:
        """Number of pixels of a common class in both label maps, in the first, in the second."""
        same = ([False, *(c.name == name for c in side)] for side in (self.a, self.b))
        return self._overlap(*same)

    def _overlap(self, rows: Sequence[bool], cols: Sequence[bool]) -> tuple[int, int, int]:
        both = self.pixels[np.ix_(np.array(rows), np.array(cols))].sum()
        in_a, in_b = self.pixels[np.array(rows)].sum(), self.pixels[:, np.array(cols)].sum()
        return int(both), int(in_a), int(in_b)

    @property
    def tumor_dice(self) -> float | None:
        """Dice of the tumor, 0..1; None if neither label map has tumor."""
        return dice(*self.tumor)

    def class_dice(self, name: str) -> float | None:
        """Dice of a common class, 0..1; None if neither label map has it."""
        return dice(*self.of_class(name))

    @property
    def tumor_agreement(self) -> float | None:
        """Share of the pixels analysed in both on which both say tumor, or both say no tumor."""
        in_a, in_b = (np.array([c.role == "tumor" for c in side]) for side in (self.a, self.b))
        agree = in_a[:, None] == in_b
        return _share(int(self.pixels[1:, 1:][agree].sum()), self.analysed_in_both)

    @property
    def class_agreement(self) -> float | None:
        """Share of the pixels on which both label maps have the same class.

        Pixels count that have a common class in both label maps.
        """
        names = self.common
        rows, cols = ([1 + [c.name for c in k].index(n) for n in names] for k in (self.a, self.b))
        square = self.pixels[np.ix_(rows, cols)] if names else np.zeros((0, 0), np.int64)
        return _share(int(np.trace(square)), int(square.sum()))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
