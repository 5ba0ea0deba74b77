"""Pixels of a slide for the viewer: from its file, or from the overview in its result."""

import math
from typing import Protocol

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.resample import average, make_taps
from noctile.pipeline.slides.source import WHITE
from noctile.workflows.viewer.layers import Layer

_FINE = 1e-2
"""Relative difference by which an image may be coarser than a tile and count as fine enough."""

_FILE_RATIO, _FILE_RATIO_MOST = 4, 8
"""Pixels of the file in a pixel of a tile, along each axis, from which the overview is taken: if it
is fine enough, and in any case. A tile of 512 px then reads at most 4096 x 4096 px of the file."""


class SlideImage(Protocol):
    """Pixels of a slide, tile by tile. Several threads may use it at once."""

    @property
    def layer(self) -> Layer:
        """Pyramid of tiles."""
        ...

    def tile(self, d: int, row: int, col: int) -> UInt8:
        """Read a tile, RGB, uint8 ``[h, w, 3]``.

        Raises:
            NoTileError: if there is no such tile.
            SlideError: if its pixels cannot be read.
        """
        ...


class OverviewImage:
    """The overview that the result of a slide holds, of about 8 um/px.

    Args:
        store: masks of the slide.
    """

    def __init__(self, store: MaskStore) -> None:
        self._store, self.layer = store, Layer.of(store.thumbnail_frame)

    def tile(self, d: int, row: int, col: int) -> UInt8:
        """See `SlideImage.tile`."""
        return self.read(self.layer.box(d, row, col), self.layer.level(d))

    def read(self, box: Box, frame: Frame) -> UInt8:
        """Read a box of any frame of the slide, averaged or interpolated, uint8 ``[h, w, 3]``."""
        level = self._level_for(frame)
        own = self._store.thumbnail_frame.coarser(2**level)
        ratio_y, ratio_x = frame.mpp_y / own.mpp_y, frame.mpp_x / own.mpp_x
        rows = make_taps(box.y, box.y_stop, ratio_y, 0.0, own.extent.height)
        cols = make_taps(box.x, box.x_stop, ratio_x, 0.0, own.extent.width)
        cover = Box(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        inside = cover.intersect(own.box)
        if not inside.area:  # less than a pixel of the overview at its rim
            return np.full((box.height, box.width, 3), WHITE, np.uint8)
        pixels = self._store.read_thumbnail(level, inside)
        after = (cover.y_stop - inside.y_stop, cover.x_stop - inside.x_stop)
        padded = np.pad(pixels, ((0, after[0]), (0, after[1]), (0, 0)), mode="edge")
        return average(padded, rows, cols)

    def _level_for(self, frame: Frame) -> int:
        """Coarsest level of the overview that is as fine as a frame; 0 if none is."""
        steps = math.floor(math.log2(frame.mpp / self._store.thumbnail_frame.mpp) + _FINE)
        return min(max(0, steps), self._store.layout.levels - 1)


class FileImage:
    """Pixels of the slide's own file; of coarse tiles, those of the overview.

    Args:
        reader: the open file.
        store: masks of the slide.
    """

    def __init__(self, reader: SlideReader, store: MaskStore) -> None:
        self._reader, self._overview = reader, OverviewImage(store)
        frame = reader.info.frame
        self.layer = Layer.of(frame.at(frame.mpp))

    def tile(self, d: int, row: int, col: int) -> UInt8:
        """See `SlideImage.tile`."""
        box, frame = self.layer.box(d, row, col), self.layer.level(d)
        if self._takes_overview(frame):
            return self._overview.read(box, frame)
        return self._reader.read(box, self.layer.frame.mpp * 2**d)

    def _takes_overview(self, frame: Frame) -> bool:
        """Tell if the file has no level near a frame, so that a tile would read much of it."""
        fine = (level.mpp for level in self._reader.info.levels if level.mpp <= frame.mpp * 1.01)
        ratio = frame.mpp / max(fine, default=frame.mpp)
        as_fine = self._overview.layer.frame.mpp <= frame.mpp * (1 + _FINE)
        return ratio > _FILE_RATIO_MOST or (ratio > _FILE_RATIO and as_fine)
