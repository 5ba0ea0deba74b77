"""Reader of any pixel size from any pyramid of levels.

It chooses the level, fetches the pixels of that level in parts, averages them to the wanted pixel
size, and is white outside the slide.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideError, SlideReadError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.channel_order import (
    BGR_FLAG,
    DOUBT_FLAG,
    UNSURE_VENDORS,
    ChannelOrder,
    channel_order,
)
from noctile.pipeline.slides.resample import average, make_taps
from noctile.pipeline.slides.source import WHITE, PixelSource, SourceInfo
from noctile.pipeline.slides.storage import Storage

_COARSER = 1e-3
"""Relative difference by which a level may be coarser than the wanted pixel size and still be used:
scanners round the pixel sizes that they write."""

_PART_PX = 2048
"""Side of the largest square that is fetched at once (px of the level), for a box of any size:
4 Mpx and their copies. (tests/pipeline/slides/test_pyramid.py measures the peak)"""

_SAMPLES, _SAMPLE_PX = 8, 256
"""Size of the grid on which the channel order is judged: at most 8 x 8 squares with a side of
256 px, spread over level 0."""


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the file, or a reduction of one.

    Attributes:
        index: index of the level in `PixelSource.fetch`.
        factor: number of pixels of the file's level in one pixel, along each axis; 1 for the file's
            level itself.
        extent: extent of the level (px).
        frame: frame of the level, cut to the slide's bounds.
        y: first row of the slide's frame in the level (px of the level, may be fractional).
        x: first column of the slide's frame in the level (px of the level, may be fractional).
    """

    index: int
    factor: int
    extent: Extent
    frame: Frame
    y: float
    x: float


def downsample(native: int, length: int, other_native: int, other_length: int) -> float:
    """Number of level-0 pixels in a pixel of a level, along one axis.

    Writers drop the pixels that do not fill the last row or column. So 2967 / 741 is 4.004 in a
    level whose pixels are means of 4. If a whole factor explains both sides up to such a remainder,
    the result is that factor.

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


def level_frames(file: SourceInfo, mpp_y: float, mpp_x: float) -> tuple[Frame, ...]:
    """Frames of all levels of a file, cut to its bounds.

    Args:
        file: description of the file.
        mpp_y: height of a level-0 pixel (um).
        mpp_x: width of a level-0 pixel (um).
    """
    return tuple(level.frame for level in _levels(file, mpp_y, mpp_x)[: len(file.extents)])


class PyramidReader:
    """`SlideReader` over any `PixelSource`.

    Args:
        source: the open file; closed with the reader.
        info: description of the slide; its levels come from `level_frames`.
        bgr: True if the file is known to be in BGR order, False if in RGB order; None to detect it
            from the pixels.
    """

    def __init__(self, source: PixelSource, info: SlideInfo, bgr: bool | None = None) -> None:
        self._source, self._info, self._known_bgr = source, info, bgr
        self._levels = _levels(source.info, info.frame.mpp_y, info.frame.mpp_x)
        self._storage = Storage(info.slide_id, info.path)
        self._closed = False

    @property
    def info(self) -> SlideInfo:
        """Description of the slide."""
        return self._info

    @property
    def bgr(self) -> bool:
        """True if the file stores its channels in BGR order. ``read`` returns RGB in both cases."""
        return self._channel_order == "bgr"

    @property
    def flags(self) -> tuple[str, ...]:
        """Quality flags of the file's channel order, see `SlideReader.flags`."""
        return {"rgb": (), "bgr": (BGR_FLAG,), "doubtful": (DOUBT_FLAG,)}[self._channel_order]

    @cached_property
    def _channel_order(self) -> ChannelOrder:
        if self._known_bgr is not None:
            return "bgr" if self._known_bgr else "rgb"
        if self._info.vendor not in UNSURE_VENDORS:
            return "rgb"
        order = channel_order(self._samples())
        self._source.forget()
        return order

    def read(self, box: Box, mpp: float) -> UInt8:
        """Read the pixels of a box at any pixel size, see `SlideReader.read`.

        About `_PART_PX` squared pixels of a level are in memory at once, for a box of any size.

        Args:
            box: region in pixels of ``info.frame.at(mpp)``.
            mpp: pixel size (um).

        Returns:
            RGB, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the file's pixels cannot be decoded.
            StorageError: if the disk or the network with the file answers with an error.
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
        """Coarsest level that is as fine as the target along both axes; level 0 if none is.

        Among levels of the same pixel size, the file's own comes before reductions.
        """
        fine = [
            level
            for level in self._levels
            if level.frame.mpp_y <= target.mpp_y * (1 + _COARSER)
            and level.frame.mpp_x <= target.mpp_x * (1 + _COARSER)
        ]
        coarsest = max((level.frame.mpp for level in fine), default=0.0)
        equal = (level for level in fine if level.frame.mpp * (1 + _COARSER) >= coarsest)
        return min(equal, key=lambda level: level.factor, default=self._levels[0])

    def _resampled(self, level: _Level, box: Box, ratio_y: float, ratio_x: float) -> UInt8:
        """Pixels of a box of the target.

        Args:
            level: level from which they are averaged.
            box: region in pixels of the target.
            ratio_y: rows of the level in one row of the target.
            ratio_x: columns of the level in one column of the target.
        """
        rows = make_taps(box.y, box.y_stop, ratio_y, level.y, level.extent.height)
        cols = make_taps(box.x, box.x_stop, ratio_x, level.x, level.extent.width)
        cover = Box(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        return average(self._fetch(level, cover), rows, cols)

    def _fetch(self, level: _Level, box: Box) -> UInt8:
        """Pixels of a box of a level; white outside the level."""
        inside = box.intersect(Box.of(level.extent))
        if inside == box:
            return self._fetch_rgb(level.index, box)
        out = np.full((box.height, box.width, 3), WHITE, np.uint8)
        if inside.area:
            out[inside.slices(box)] = self._fetch_rgb(level.index, inside)
        return out

    def _fetch_rgb(self, level: int, box: Box) -> UInt8:
        """Pixels of a level in RGB order."""
        pixels = self._fetched(level, box)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.bgr else pixels

    def _fetched(self, level: int, box: Box) -> UInt8:
        """Pixels of a level in the file's channel order.

        Raises:
            SlideReadError: if the file's pixels cannot be decoded.
            StorageError: if the disk or the network with the file answers with an error.
        """
        try:
            return self._source.fetch(level, box)
        except SlideError as error:
            if storage_error := self._storage.error_behind(error):
                raise storage_error from error
            raise

    def _samples(self) -> Iterator[UInt8]:
        """Squares of level 0 in the file's channel order, without those that cannot be decoded."""
        native = self._source.info.scanned
        height, width = min(_SAMPLE_PX, native.height), min(_SAMPLE_PX, native.width)
        for y, x in itertools.product(_spread(native.height), _spread(native.width)):
            with suppress(SlideReadError):
                yield self._fetched(0, Box(native.y + y, native.x + x, height, width))


def _spread(side: int) -> Iterator[int]:
    """First pixels of the sample squares along an axis; no more squares than cover the axis."""
    starts = np.linspace(0, max(0, side - _SAMPLE_PX), min(_SAMPLES, -(-side // _SAMPLE_PX)))
    return map(round, starts.tolist())


def _levels(file: SourceInfo, mpp_y: float, mpp_x: float) -> tuple[_Level, ...]:
    """Levels of the file, then its reductions."""
    native, levels = file.extents[0], []
    for index, (level, factor) in enumerate(_indexes(file)):
        whole = file.extents[level]
        by_y = downsample(native.height, whole.height, native.width, whole.width) * factor
        by_x = downsample(native.width, whole.width, native.height, whole.height) * factor
        extent = Extent(whole.height // factor, whole.width // factor)
        levels.append(_level(file.scanned, index, factor, extent, (by_y, by_x), (mpp_y, mpp_x)))
    return tuple(levels)


def _indexes(file: SourceInfo) -> Iterator[tuple[int, int]]:
    """Index of the file's level, and factor, of all levels and reductions."""
    yield from ((level, 1) for level in range(len(file.extents)))
    yield from ((reduction.level, reduction.factor) for reduction in file.reductions)


def _level(
    scanned: Box,
    index: int,
    factor: int,
    extent: Extent,
    by: tuple[float, float],
    mpp: tuple[float, float],
) -> _Level:
    """A level or reduction.

    Args:
        scanned: part of level 0 that the slide covers (px).
        index: index of the level in `PixelSource.fetch`.
        factor: see `_Level`.
        extent: extent of the level (px).
        by: size of its pixels in level-0 pixels (y, x).
        mpp: size of a level-0 pixel (um; y, x).
    """
    height, width = math.ceil(scanned.height / by[0]), math.ceil(scanned.width / by[1])
    cut = Extent(min(extent.height, height), min(extent.width, width))
    frame = Frame(cut, mpp[0] * by[0], mpp[1] * by[1])
    return _Level(index, factor, extent, frame, scanned.y / by[0], scanned.x / by[1])


def _parts(box: Box, ratio_y: float, ratio_x: float) -> Iterator[Box]:
    """Cut a box into parts of at most `_PART_PX` rows and `_PART_PX` squared pixels of the level.

    Args:
        box: region in pixels of the target.
        ratio_y: rows of the level in one row of the target.
        ratio_x: columns of the level in one column of the target.
    """
    height = max(1, min(box.height, int(_PART_PX / ratio_y)))
    width = max(1, int(_PART_PX / ratio_x * (_PART_PX / (height * ratio_y))))
    for y, x in itertools.product(
        range(box.y, box.y_stop, height), range(box.x, box.x_stop, width)
    ):
        yield Box(y, x, height, width).intersect(box)
