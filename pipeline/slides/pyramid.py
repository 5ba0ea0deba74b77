"""A reader over any pyramid of levels: which level to take, what to fetch of it, white where there
is nothing.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.channel_order import UNSURE_VENDORS, is_bgr
from noctile.pipeline.slides.resample import average, make_taps
from noctile.pipeline.slides.source import WHITE, PixelSource, SourceInfo

_COARSER = 1e-3
"""How much (relative) coarser than wanted a level may be and still be taken: scanners round what
they write."""

_PART_PX = 2048
"""Its square is what is fetched at once (px of the level): 4 Mpx and their copies, whatever the
box. (peak: tests/slides)"""


_LOOKS, _LOOK_PX = 8, 256
"""The order of the channels is judged on a grid of at most 8 x 8 squares of 256 px, spread over
level 0."""


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the file, or one that its source makes of it.

    Attributes:
        index: its number, as the source counts.
        factor: how many pixels of a level of the file make one; 1 is that level itself.
        extent: of its pixels (px).
        frame: cut to the slide's bounds.
        y: where the slide's frame begins in the level (px of the level, maybe between two).
        x: likewise.
    """

    index: int
    factor: int
    extent: Extent
    frame: Frame
    y: float
    x: float


def downsample(native: int, length: int, other_native: int, other_length: int) -> float:
    """Level-0 pixels in a pixel of a level, along one axis.

    Writers drop the pixels that do not fill the last row or column, so that 2967 / 741 is 4.004
    where each pixel is the mean of 4: where a whole factor explains both sides up to such a
    remainder, it is that factor.

    Args:
        native: side of level 0 (px).
        length: side of the level (px).
        other_native: the other side of level 0 (px).
        other_length: the other side of the level (px).
    """
    factor = round(native / length)
    if (
        abs(factor * length - native) < factor
        and abs(factor * other_length - other_native) < factor
    ):
        return float(factor)
    return native / length


def level_frames(facts: SourceInfo, mpp_y: float, mpp_x: float) -> tuple[Frame, ...]:
    """The frames of all levels, cut to the bounds; ``mpp_y`` and ``mpp_x`` are those of level 0
    (um).
    """
    return tuple(level.frame for level in _levels(facts, mpp_y, mpp_x)[: len(facts.extents)])


class PyramidReader:
    """The `SlideReader` of any `PixelSource`.

    Args:
        source: the open file; closed with the reader.
        info: what the slide is; its levels come from `level_frames`.
        bgr: whether the file holds blue where red belongs, as an earlier reader found; None:
            look for oneself.
    """

    def __init__(self, source: PixelSource, info: SlideInfo, bgr: bool | None = None) -> None:
        self._source, self._info, self._known_bgr = source, info, bgr
        self._levels = _levels(source.info, info.frame.mpp_y, info.frame.mpp_x)
        self._closed = False

    @property
    def info(self) -> SlideInfo:
        """What the slide is."""
        return self._info

    @cached_property
    def bgr(self) -> bool:
        """Whether the file holds blue where red belongs; ``read`` has put it right."""
        if self._known_bgr is not None:
            return self._known_bgr
        if self._info.vendor not in UNSURE_VENDORS:
            return False
        bgr = is_bgr(self._looks())
        self._source.forget()
        return bgr

    def read(self, box: Box, mpp: float) -> UInt8:
        """The pixels of ``box``, given in pixels of ``info.frame.at(mpp)``; see `SlideReader.read`.

        Whatever the box, about `_PART_PX` squared pixels of a level are held at once.

        Raises:
            SlideReadError: if the file's pixels cannot be decoded.
            ValueError: if the reader was closed.
        """
        if self._closed:
            raise ValueError(f"the reader of slide {self._info.slide_id} is closed")
        target = self._info.frame.at(mpp)
        level = self._level_for(target)
        ratio_y, ratio_x = target.mpp_y / level.frame.mpp_y, target.mpp_x / level.frame.mpp_x
        parts = list(_parts(box.intersect(target.box), ratio_y, ratio_x))
        if parts == [box]:
            return self._resampled(level, box, ratio_y, ratio_x)
        out = np.full((box.height, box.width, 3), WHITE, np.uint8)
        for part in parts:
            out[part.slices(box)] = self._resampled(level, part, ratio_y, ratio_x)
        return out

    def close(self) -> None:
        """Release the file. Reading afterwards is an error."""
        self._closed = True
        self._source.close()

    def _level_for(self, target: Frame) -> _Level:
        """The coarsest level that is as fine as the target along both axes; level 0 if none is.

        Of levels of the same pixel size the one that leaves least to the source: the file's own
        before reductions.
        """
        fine = [
            level
            for level in self._levels
            if level.frame.mpp_y <= target.mpp_y * (1 + _COARSER)
            and level.frame.mpp_x <= target.mpp_x * (1 + _COARSER)
        ]
        coarsest = max((level.frame.mpp for level in fine), default=0.0)
        alike = (level for level in fine if level.frame.mpp * (1 + _COARSER) >= coarsest)
        return min(alike, key=lambda level: level.factor, default=self._levels[0])

    def _resampled(self, level: _Level, box: Box, ratio_y: float, ratio_x: float) -> UInt8:
        """A box of the target, one pixel of which is ``ratio_y`` x ``ratio_x`` pixels of the level."""
        rows = make_taps(box.y, box.y_stop, ratio_y, level.y, level.extent.height)
        cols = make_taps(box.x, box.x_stop, ratio_x, level.x, level.extent.width)
        cover = Box(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        return average(self._fetch(level, cover), rows, cols)

    def _fetch(self, level: _Level, box: Box) -> UInt8:
        """Pixels of a box that may reach outside the level, where it is white."""
        inside = box.intersect(Box.of(level.extent))
        if inside == box:
            return self._fetch_rgb(level.index, box)
        out = np.full((box.height, box.width, 3), WHITE, np.uint8)
        if inside.area:
            out[inside.slices(box)] = self._fetch_rgb(level.index, inside)
        return out

    def _fetch_rgb(self, level: int, box: Box) -> UInt8:
        """Pixels of a level, red first."""
        pixels = self._source.fetch(level, box)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.bgr else pixels

    def _looks(self) -> Iterator[UInt8]:
        """Squares of level 0, as the file has them; those that cannot be decoded are left out."""
        native = self._source.info.scanned
        height, width = min(_LOOK_PX, native.height), min(_LOOK_PX, native.width)
        for y, x in itertools.product(_spread(native.height), _spread(native.width)):
            with suppress(SlideReadError):
                yield self._source.fetch(0, Box(native.y + y, native.x + x, height, width))


def _spread(side: int) -> Iterator[int]:
    """Where the squares of `_looks` begin along an axis; no more of them than it takes to see all
    of it.
    """
    places = np.linspace(0, max(0, side - _LOOK_PX), min(_LOOKS, -(-side // _LOOK_PX)))
    return map(round, places.tolist())


def _levels(facts: SourceInfo, mpp_y: float, mpp_x: float) -> tuple[_Level, ...]:
    """The levels of the file, then its reductions."""
    native, levels = facts.extents[0], []
    for index, (level, factor) in enumerate(_sources(facts)):
        whole = facts.extents[level]
        by_y = downsample(native.height, whole.height, native.width, whole.width) * factor
        by_x = downsample(native.width, whole.width, native.height, whole.height) * factor
        extent = Extent(whole.height // factor, whole.width // factor)
        levels.append(_level(facts.scanned, index, factor, extent, (by_y, by_x), (mpp_y, mpp_x)))
    return tuple(levels)


def _sources(facts: SourceInfo) -> Iterator[tuple[int, int]]:
    """Level of the file and factor of everything that can be fetched."""
    yield from ((level, 1) for level in range(len(facts.extents)))
    yield from ((reduction.level, reduction.factor) for reduction in facts.reductions)


def _level(
    scanned: Box,
    index: int,
    factor: int,
    extent: Extent,
    by: tuple[float, float],
    mpp: tuple[float, float],
) -> _Level:
    """A level whose pixels measure ``by`` pixels of level 0, which measure ``mpp`` (um; y, x)."""
    height, width = math.ceil(scanned.height / by[0]), math.ceil(scanned.width / by[1])
    cut = Extent(min(extent.height, height), min(extent.width, width))
    frame = Frame(cut, mpp[0] * by[0], mpp[1] * by[1])
    return _Level(index, factor, extent, frame, scanned.y / by[0], scanned.x / by[1])


def _parts(box: Box, ratio_y: float, ratio_x: float) -> Iterator[Box]:
    """A box of the target cut into parts of at most `_PART_PX` rows and `_PART_PX` squared pixels
    of the level.

    Args:
        box: in pixels of the target.
        ratio_y: rows of the level in one of the target.
        ratio_x: columns, likewise.
    """
    height = max(1, min(box.height, int(_PART_PX / ratio_y)))
    width = max(1, int(_PART_PX / ratio_x * (_PART_PX / (height * ratio_y))))
    for y, x in itertools.product(
        range(box.y, box.y_stop, height), range(box.x, box.x_stop, width)
    ):
        yield Box(y, x, height, width).intersect(box)
