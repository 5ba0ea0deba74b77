"""Pixels of tiled TIFF files, straight from their bytes: each tile is read, decoded once and kept a
while.
"""

import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.source import WHITE, Reduction, SourceInfo, decode_error
from noctile.pipeline.slides.tiff.codecs import DECODE_ERRORS
from noctile.pipeline.slides.tiff.layout import TileLayout

CACHE_BYTES = 64 * 2**20
"""Decoded tiles that are kept: rows of overlapping strips of a block, 10 MB each at 4,096 x 768 px,
in some threads."""

_Key = tuple[int, int]
"""A level as `TiledTiffSource.fetch` counts them, and the number of a tile."""

_Piece = tuple[int, tuple[slice, slice], tuple[slice, slice]]
"""Number of a tile, where it belongs in the pixels that are fetched, and which part of it."""


class TiledTiffSource:
    """A `PixelSource` over the tiles of a TIFF file. Several threads may use it at once.

    Bytes are read at their place (pread), not mapped: where a file on a network share is cut short,
    that is an error, not the end of the process.

    Args:
        path: the file.
        slide_id: for messages.
        facts: what the slide library says of the file.
        grids: the tiles of all levels.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(
        self, path: Path, slide_id: str, facts: SourceInfo, grids: tuple[TileLayout, ...]
    ) -> None:
        self._slide_id = slide_id
        reductions = tuple(
            Reduction(level, factor)
            for level, grid in enumerate(grids)
            for factor in grid.reductions
        )
        self.info = replace(facts, reader="tiled-tiff", reductions=reductions)
        whole = [(grid, level, 1) for level, grid in enumerate(grids)]
        self._levels = [*whole, *((grids[r.level], r.level, r.factor) for r in reductions)]
        self._cache, self._scratch = _TileCache(CACHE_BYTES), _Scratch()
        self._file = path.open("rb", buffering=0)
        self._size = path.stat().st_size

    def fetch(self, level: int, box: Box) -> UInt8:
        """Pixels of a level or a reduction, uint8 ``[box.height, box.width, 3]``, RGB on white.

        Raises:
            SlideReadError: if they cannot be decoded.
        """
        grid, of_level, factor = self._levels[level]
        out = np.empty((box.height, box.width, 3), np.uint8)
        try:
            for number, to, of in _pieces(grid, factor, box):
                out[to] = self._tile((level, number))[of] if grid.counts[number] else WHITE
        except (OSError, *DECODE_ERRORS) as error:
            native = Box(box.y * factor, box.x * factor, box.height * factor, box.width * factor)
            raise decode_error(self._slide_id, of_level, native, error) from error
        return out

    def forget(self) -> None:
        """Forget the tiles, and whether any was asked for again."""
        self._cache = _TileCache(CACHE_BYTES)

    def close(self) -> None:
        """Release the file and the pixels."""
        self._file.close()
        self._cache.clear()

    def _tile(self, key: _Key) -> UInt8:
        """A tile's pixels, not to be written to, good until this thread asks for another."""
        held, keep = self._cache.get(key)
        if held is not None:
            return held
        grid, _, factor = self._levels[key[0]]
        shape = grid.tile.height // factor, grid.tile.width // factor, 3
        into = _room(shape) if keep else self._scratch.of(shape)
        tile = grid.codec.decode(self._stream(grid, key[1]), factor, into)
        self._cache.put(key, tile.nbytes, tile if keep else None)
        return tile

    def _stream(self, grid: TileLayout, number: int) -> bytes:
        """The bytes of a tile.

        Raises:
            ValueError: if they cannot be those of a tile, or are not in the file.
            OSError: if they cannot be read.
        """
        offset, count = int(grid.offsets[number]), int(grid.counts[number])
        if count > grid.max_bytes:
            raise ValueError(
                f"a tile of {grid.tile.height} x {grid.tile.width} px is said to take {count} bytes"
            )
        stream = os.pread(self._file.fileno(), count, offset) if offset < self._size else b""
        if len(stream) < count:
            raise ValueError(
                f"{count} bytes are said to begin at {offset}, the file holds {len(stream)} of them"
            )
        return stream


class _TileCache:
    """The tiles used last, up to a number of bytes, of levels where that pays. Safe to use from
    several threads.

    A tile is kept once one of its level was asked for again that would have been held if it had
    been kept. Where reads do not share tiles, nothing is: a buffer that stays in the processor's
    cache takes 10 % less time than fresh memory. Threads that miss the same tile at the same time
    both decode it.

    Args:
        limit_bytes: the most that is held, or counted as if it was.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._bytes = limit_bytes, 0
        self._used: OrderedDict[_Key, tuple[int, UInt8 | None]] = OrderedDict()
        self._asked_again: set[int] = set()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> tuple[UInt8 | None, bool]:
        """The tile of that key, if it is held; and whether it is worth keeping if not."""
        with self._lock:
            used = self._used.get(key)
            if used:
                self._used.move_to_end(key)
                self._asked_again.add(key[0])
            return used[1] if used else None, key[0] in self._asked_again

    def put(self, key: _Key, nbytes: int, tile: UInt8 | None) -> None:
        """Keep a tile, or if it is None only that it was used; ``nbytes`` is what it takes."""
        with self._lock:
            self._bytes += nbytes - self._used.pop(key, (0, None))[0]
            self._used[key] = nbytes, tile
            while self._bytes > self._limit_bytes:
                self._bytes -= self._used.popitem(last=False)[1][0]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._used.clear()
            self._bytes = 0


class _Scratch(threading.local):
    """A buffer for each shape of tile, in each thread."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, int], UInt8] = {}

    def of(self, shape: tuple[int, int, int]) -> UInt8:
        """The buffer of that shape."""
        if shape not in self._buffers:
            self._buffers[shape] = _room(shape)
        return self._buffers[shape]


def _room(shape: tuple[int, int, int]) -> UInt8:
    """Memory for a tile; where its pixels go next, they are still in the processor's cache.

    Rows that begin at a multiple of 16 or 32 bytes libjpeg-turbo writes past it (jdcolext-sse2.asm,
    jdcolext-avx2.asm: ``movntdq``); to fetch them again took up to a sixth of a tile's reading.
    (benchmarks/RESULTS.md)
    """
    size = math.prod(shape)
    memory = np.empty(size + 32, np.uint8)
    start = (8 - memory.ctypes.data) % 32
    return memory[start : start + size].reshape(shape)


def _pieces(grid: TileLayout, factor: int, box: Box) -> Iterator[_Piece]:
    """The tiles that a box touches, in pixels of the level reduced by ``factor``."""
    rows = _spans(box.y, box.y_stop, grid.tile.height // factor)
    cols = _spans(box.x, box.x_stop, grid.tile.width // factor)
    for (row, to_y, of_y), (col, to_x, of_x) in itertools.product(rows, cols):
        yield row * grid.across + col, (to_y, to_x), (of_y, of_x)


def _spans(start: int, stop: int, side: int) -> list[tuple[int, slice, slice]]:
    """The tiles under a range of one axis: number, where in the range, what of the tile."""
    spans = []
    for number in range(start // side, -(-stop // side)):
        first, last = max(start, number * side), min(stop, (number + 1) * side)
        spans.append(
            (
                number,
                slice(first - start, last - start),
                slice(first - number * side, last - number * side),
            )
        )
    return spans
