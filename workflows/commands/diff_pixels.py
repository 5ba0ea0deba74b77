"""Labels of two results of a slide, read block by block on one grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np

from noctile.pipeline.arrays import Int64, UInt8
from noctile.pipeline.diff import (
    Alignment,
    Placement,
    covered_box,
    frame_under,
    grid_is_first,
    labels_under,
    pixels_under,
    place,
)
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.layout import SlideFolder

_READ_PX = 2**26
"""Largest part of the finer label map that is in memory at a time (px)."""


_MOST_UM, _MOST_PX = 1e4, 1e9
"""Largest pixel size (um) and largest offset of a scanned region (px) that are no damage."""


class DiffSide:
    """Result of a slide on one side of a comparison; it is only read.

    Args:
        path: folder of the result.

    Attributes:
        folder: paths in it.
        result: the result.
        store: its masks.
        classes: classes of its label map.

    Raises:
        StoreError: if it is damaged or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.folder = SlideFolder(path)
        if path.is_symlink() or path.parent.is_symlink():
            raise StoreError(f"{path} is a link, which no run makes; it is not followed")
        if fault := slide_fault(self.folder):
            raise StoreError(f"the result in {path} is damaged: {fault}; run its slide again")
        self.result, self.store = SlideResult(self.folder), MaskStore.open(self.folder.mask)
        self.classes: tuple[ClassInfo, ...] = self.store.layout.classes

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``."""
        return self.result.summary

    def placement(self, alignment: Alignment) -> Placement:
        """Place its label map in the coordinates that it shares with the other side.

        Raises:
            StoreError: if the pixel size or the bounds in its summary cannot be true.
        """
        top, left = (float(value) for value in self.result.to_level0(0, 0))  # checks the types
        mpp = self.summary["mpp"]
        if not (all(0 < um < _MOST_UM for um in mpp) and max(abs(top), abs(left)) < _MOST_PX):
            raise StoreError(
                f"{self.folder.summary} is damaged: no slide has the mpp {mpp} and bounds at "
                f"{top}, {left} px; run its slide again"
            )
        return place(self.store.layout.frame, mpp, (top, left), alignment)

    @cached_property
    def stored(self) -> set[tuple[int, int]]:
        """Positions (row, col) of the shards that hold labels."""
        return set(self.store.stored_shards())


@dataclass(frozen=True, slots=True)
class GridBlock:
    """Labels of both sides on one block of the grid.

    Attributes:
        box: the block, in pixels of the grid.
        a: uint8 ``[h, w]``, labels of the first side; codes of its own classes.
        b: uint8 ``[h, w]``, labels of the second side; codes of its own classes.
    """

    box: Box
    a: UInt8
    b: UInt8


class CommonGrid:
    """Pixels of two label maps on the grid of the coarser one; if equal, on that of the first.

    A pixel takes the label of the other map under its centre.

    Args:
        a: first side.
        b: second side.
        alignment: coordinates that both share.

    Attributes:
        a_is_grid: True if the first side gives the grid.
        grid: the side that gives the grid.
        other: the other side.

    Raises:
        StoreError: if a value of a summary is damaged.
    """

    def __init__(self, a: DiffSide, b: DiffSide, alignment: Alignment) -> None:
        places = a.placement(alignment), b.placement(alignment)
        self.a_is_grid = grid_is_first(*places)
        self.grid, self.other = (a, b) if self.a_is_grid else (b, a)
        if not self.a_is_grid:
            places = places[::-1]
        self._rows, self._cols = pixels_under(*places)
        self._covered = frame_under(*places)

    def blocks(self) -> Iterator[GridBlock]:
        """Read the blocks in which a side may have labels, one at a time.

        Raises:
            StoreError: if a shard cannot be decoded.
        """
        layout = self.grid.store.layout
        side = layout.block_px
        shape = (ceil(n / side) for n in (len(self._rows), len(self._cols)))
        for key in product(*map(range, shape)):
            box = layout.shard_box(*key)
            rows, cols = self._rows[box.y : box.y_stop], self._cols[box.x : box.x_stop]
            if key not in self.grid.stored and not self._has_labels(covered_box(rows, cols)):
                continue
            own = self.grid.store.read(box)
            under = self._read_other(rows, cols)
            yield GridBlock(box, *((own, under) if self.a_is_grid else (under, own)))

    def _has_labels(self, box: Box) -> bool:
        """Tell if a box of the other label map touches a shard that holds labels."""
        side = self.other.store.layout.block_px
        rows = range(box.y // side, ceil(box.y_stop / side))
        cols = range(box.x // side, ceil(box.x_stop / side))
        return box.area > 0 and any(key in self.other.stored for key in product(rows, cols))

    def _read_other(self, rows: Int64, cols: Int64) -> UInt8:
        """Labels of the other side on a block, read in strips of at most `_READ_PX` pixels."""
        whole = covered_box(rows, cols)
        per_row = whole.area / len(rows)
        step = int(max(1, min(len(rows), _READ_PX / per_row if per_row else inf)))
        under = np.zeros((len(rows), len(cols)), np.uint8)
        for y in range(0, len(rows), step):
            box = covered_box(rows[y : y + step], cols)
            if self._has_labels(box):
                labels = self.other.store.read(box)
                under[y : y + step] = labels_under(labels, box, rows[y : y + step], cols)
        return under

    def outside_px(self) -> int:
        """Count the labels of the other side that lie outside the grid.

        Raises:
            StoreError: if a shard cannot be decoded.
        """
        other = self.other.store
        count = 0
        for key in sorted(self.other.stored):
            box = other.layout.shard_box(*key)
            if not self._covered.contains(box):
                labels = other.read(box)
                inside = labels[self._covered.intersect(box).slices(box)]
                count += int(np.count_nonzero(labels) - np.count_nonzero(inside))
        return count
