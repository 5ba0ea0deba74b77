"""Whole shards of Zarr arrays, for what their bytes cost: chunks compressed one after the other,
then their index.

Zarr's own way to the same bytes takes twice as long, and from them to labels three times: it copies
each chunk into an empty one and the shard together from pieces, and an event loop hands them from
thread to thread (3.1.6, `zarr.codecs.ShardingCodec`). It lays the arrays out, and reads what is no
whole shard. (zarr-specs, codecs/sharding-indexed v1.0; docs/decisions/0019)
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from uuid import uuid4

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import Zstd

UInt8 = npt.NDArray[np.uint8]

PARTIAL = ".partial"
"""How names end under which shards are written; those of zarr's `LocalStore` end so, too."""

LEVEL = 1
"""A fifth quicker than zstd's own default, 3, and as small: 0.0053 bytes a pixel for the samples'
labels at either, and 0.0564 instead of 0.0555 where each pixel is labelled by itself.
(benchmarks/RESULTS.md)"""

_ZSTD = Zstd(LEVEL)
_ABSENT = 2**64 - 1
_CRC = struct.Struct("<I")


def write_shard(path: Path, values: UInt8, shard: Sequence[int], chunk: Sequence[int]) -> None:
    """Write one shard to a temporary name and rename it, so that whoever is killed leaves a whole
    shard or none.

    Args:
        path: its file; folders are made.
        values: uint8, what it holds from its first corner on, cut to the array; beyond it, chunks
            are filled with 0.
        shard: shape of a shard, as many axes as ``values``.
        chunk: shape of a chunk, divides the shard's.

    Raises:
        OSError: if the file system refuses.
        ValueError: if the values do not fit the shard.
    """
    if values.ndim != len(shard) or any(
        n > most for n, most in zip(values.shape, shard, strict=True)
    ):
        raise ValueError(f"values {values.shape} do not fit a shard of {tuple(shard)}")
    content = _encoded(values, _grid(shard, chunk), chunk)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with part.open("wb") as file:
            file.writelines(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_shard(
    path: Path, extent: Sequence[int], shard: Sequence[int], chunk: Sequence[int]
) -> UInt8:
    """Read what `write_shard` or zarr wrote.

    Args:
        path: its file.
        extent: shape of what lies in the array, from the shard's first corner on.
        shard: shape of a shard, as many axes.
        chunk: shape of a chunk, divides the shard's.

    Returns:
        uint8 of shape ``extent``; 0 where no chunk was written, or no shard.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged (RuntimeError, where a chunk is).
    """
    values = np.zeros(tuple(extent), np.uint8)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return values
    grid = _grid(shard, chunk)
    end = len(content) - _CRC.size
    begin = end - 16 * math.prod(grid)
    if begin < 0 or _CRC.unpack_from(content, end) != (google_crc32c.value(content[begin:end]),):
        raise ValueError(f"{path} is damaged: its index is not what was written")
    index = np.frombuffer(content[begin:end], np.dtype("<u8")).reshape(*grid, 2)
    for position in product(*map(range, grid)):
        offset, length = (int(n) for n in index[position])
        part = values[_under(position, chunk)]
        if part.size and offset != _ABSENT:
            pixels = np.frombuffer(
                _ZSTD.decode(content[offset : offset + length]), np.uint8
            ).reshape(chunk)
            part[...] = pixels[tuple(map(slice, part.shape))]
    return values


def _encoded(values: UInt8, grid: tuple[int, ...], chunk: Sequence[int]) -> list[bytes]:
    """The chunks in which something of the array lies, and the index of all of them."""
    index = np.full((*grid, 2), _ABSENT, np.dtype("<u8"))
    content: list[bytes] = []
    end = 0
    for position in _morton_order(grid):
        part = values[_under(position, chunk)]
        if not part.size:
            continue
        if part.shape != tuple(chunk):
            part = np.pad(part, [(0, side - n) for n, side in zip(part.shape, chunk, strict=True)])
        content.append(_ZSTD.encode(np.ascontiguousarray(part)))
        index[position] = end, len(content[-1])
        end += len(content[-1])
    places = index.tobytes()
    return [*content, places, _CRC.pack(google_crc32c.value(places))]


def _grid(shard: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Chunks along each axis."""
    return tuple(n // side for n, side in zip(shard, chunk, strict=True))


def _under(position: tuple[int, ...], chunk: Sequence[int]) -> tuple[slice, ...]:
    """What of a shard lies in a chunk."""
    return tuple(slice(n * side, (n + 1) * side) for n, side in zip(position, chunk, strict=True))


@lru_cache(maxsize=16)
def _morton_order(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All positions of a grid, near ones near each other, in the order in which zarr writes them."""

    def interleaved(position: tuple[int, ...]) -> int:
        bits = (
            (n >> bit & 1) << bit * len(grid) + axis
            for axis, n in enumerate(position)
            for bit in range(64)
        )
        return sum(bits)

    return sorted(product(*map(range, grid)), key=interleaved)
