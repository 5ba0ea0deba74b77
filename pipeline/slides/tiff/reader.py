"""Pixels of tiled TIFF files, read without a slide library; decoded tiles are cached."""

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
"""Largest size of the cache of decoded tiles (B). Each thread reads overlapping strips of a block,
of 10 MB each at 4,096 x 768 px."""

_Key = tuple[int, int]
"""Index of a level in `TiledTiffSource.fetch`, and number of a tile."""

_Piece = tuple[int, tuple[slice, slice], tuple[slice, slice]]
"""Number of a tile, its region in the fetched pixels, and the part of the tile that goes there."""


class TiledTiffSource:
    """`PixelSource` over the tiles of a TIFF file. Several threads may use it at once.

    Bytes are read with pread, not mapped. So a file on a network share that is cut short causes an
    error, and does not end the process.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.
        info: description of the file by the slide library.
        layouts: tile layouts of all levels.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(
        self, path: Path, slide_id: str, info: SourceInfo, layouts: tuple[TileLayout, ...]
    ) -> None:
        self._slide_id = slide_id
        reductions = tuple(
            Reduction(level, factor)
            for level, layout in enumerate(layouts)
            for factor in layout.reductions
        )
        self.info = replace(info, reader="tiled-tiff", reductions=reductions)
        whole = [(layout, level, 1) for level, layout in enumerate(layouts)]
        self._levels = [*whole, *((layouts[r.level], r.level, r.factor) for r in reductions)]
        self._cache, self._scratch = _TileCache(CACHE_BYTES), _Scratch()
        self._file = path.open("rb", buffering=0)
        self._size = path.stat().st_size

    def fetch(self, level: int, box: Box) -> UInt8:
        """Read pixels of a level or reduction, RGB on white, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the pixels cannot be decoded.
        """
        layout, file_level, factor = self._levels[level]
        out = np.empty((box.height, box.width, 3), np.uint8)
        try:
            for number, to, of in _pieces(layout, factor, box):
                out[to] = self._tile((level, number))[of] if layout.counts[number] else WHITE
        except (OSError, *DECODE_ERRORS) as error:
            native = Box(box.y * factor, box.x * factor, box.height * factor, box.width * factor)
            raise decode_error(self._slide_id, file_level, native, error) from error
        return out

    def forget(self) -> None:
        """Drop the cached tiles, and the record of tiles that were used again."""
        self._cache = _TileCache(CACHE_BYTES)

    def close(self) -> None:
        """Release the file and the pixels."""
        self._file.close()
        self._cache.clear()

    def _tile(self, key: _Key) -> UInt8:
        """Pixels of a tile: read-only, and valid until the thread's next call."""
        held, keep = self._cache.get(key)
        if held is not None:
            return held
        layout, _, factor = self._levels[key[0]]
        shape = layout.tile.height // factor, layout.tile.width // factor, 3
        into = _tile_buffer(shape) if keep else self._scratch.of(shape)
        tile = layout.codec.decode(self._stream(layout, key[1]), factor, into)
        self._cache.put(key, tile.nbytes, tile if keep else None)
        return tile

    def _stream(self, layout: TileLayout, number: int) -> bytes:
        """Read the bytes of a tile.

        Raises:
            ValueError: if the tags state too many bytes, or bytes outside the file.
            OSError: if the file cannot be read.
        """
        offset, count = int(layout.offsets[number]), int(layout.counts[number])
        if count > layout.max_bytes:
            raise ValueError(
                f"the tags state {count} bytes for a tile of {layout.tile.height} x "
                f"{layout.tile.width} px"
            )
        stream = os.pread(self._file.fileno(), count, offset) if offset < self._size else b""
        if len(stream) < count:
            raise ValueError(
                f"the tags state {count} bytes at offset {offset}, the file holds {len(stream)} of "
                "them"
            )
        return stream


class _TileCache:
    """Cache of the tiles used last, for levels whose tiles are used again.

    Several threads may use it at once. Threads that miss the same tile at the same time both decode
    it.

    At first, only the use of tiles is recorded. Once a tile of a level is needed again within the
    limit, the tiles of that level are cached. If reads do not share tiles, none is cached: a buffer
    that stays in the processor's cache takes 10 % less time than fresh memory.

    Args:
        limit_bytes: largest size of the cached and recorded tiles together (B).
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._bytes = limit_bytes, 0
        self._used: OrderedDict[_Key, tuple[int, UInt8 | None]] = OrderedDict()
        self._reused_levels: set[int] = set()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> tuple[UInt8 | None, bool]:
        """Return the tile if it is cached, and True if tiles of its level are to be cached."""
        with self._lock:
            used = self._used.get(key)
            if used:
                self._used.move_to_end(key)
                self._reused_levels.add(key[0])
            return used[1] if used else None, key[0] in self._reused_levels

    def put(self, key: _Key, nbytes: int, tile: UInt8 | None) -> None:
        """Cache a tile, or record only its use.

        Args:
            key: level and number of the tile.
            nbytes: size of the tile (B).
            tile: pixels of the tile; None to record only its use.
        """
        with self._lock:
            self._bytes += nbytes - self._used.pop(key, (0, None))[0]
            self._used[key] = nbytes, tile
            while self._bytes > self._limit_bytes:
                self._bytes -= self._used.popitem(last=False)[1][0]

    def clear(self) -> None:
        """Drop all tiles and records."""
        with self._lock:
            self._used.clear()
            self._bytes = 0


class _Scratch(threading.local):
    """Buffers of each thread, one for each shape of tile."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, int], UInt8] = {}

    def of(self, shape: tuple[int, int, int]) -> UInt8:
        """Buffer of a shape."""
        if shape not in self._buffers:
            self._buffers[shape] = _tile_buffer(shape)
        return self._buffers[shape]


def _tile_buffer(shape: tuple[int, int, int]) -> UInt8:
    """Allocate memory for a tile whose pixels stay in the processor's cache while it is decoded.

    libjpeg-turbo writes rows that begin at a multiple of 16 or 32 bytes past the cache
    (jdcolext-sse2.asm, jdcolext-avx2.asm: ``movntdq``). To fetch them again took up to a sixth of
    the time of reading a tile. (benchmarks/history/reading.md)
    """
    size = math.prod(shape)
    memory = np.empty(size + 32, np.uint8)
    start = (8 - memory.ctypes.data) % 32
    return memory[start : start + size].reshape(shape)


def _pieces(layout: TileLayout, factor: int, box: Box) -> Iterator[_Piece]:
    """Tiles that a box touches; the box is in pixels of the level reduced by ``factor``."""
    rows = _spans(box.y, box.y_stop, layout.tile.height // factor)
    cols = _spans(box.x, box.x_stop, layout.tile.width // factor)
    for (row, to_y, of_y), (col, to_x, of_x) in itertools.product(rows, cols):
        yield row * layout.across + col, (to_y, to_x), (of_y, of_x)


def _spans(start: int, stop: int, side: int) -> list[tuple[int, slice, slice]]:
    """Tiles under a range of one axis: number, part of the range, part of the tile."""
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
