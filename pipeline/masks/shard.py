"""Direct reading and writing of whole shards of Zarr arrays.

A shard is a file with compressed chunks, one after the other, and then their index (zarr-specs,
codecs/sharding-indexed v1.0). Zarr itself takes twice as long to write the same bytes, and three
times as long to read them: it copies each chunk into an empty one, joins the shard from pieces, and
passes them between threads through an event loop (3.1.6, `zarr.codecs.ShardingCodec`). Zarr still
creates the arrays, and reads regions that are no whole shard. (docs/decisions/0019)
"""

import math
import os
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from uuid import uuid4

import google_crc32c
import numpy as np
from numcodecs import Zstd
from numpy.typing import NDArray

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.untrusted import read_bytes

PARTIAL = ".partial"
"""Ending of the temporary names of shards, the same as that of zarr's `LocalStore`."""

ZSTD_LEVEL = 1
"""Compression level: a fifth quicker than zstd's default, 3, and nearly as small.

Labels of the sample slides take 0.0053 bytes a pixel at both levels. Where each pixel is labelled
by itself they take 0.0564 instead of 0.0555. (benchmarks/history/writing.md)
"""

_ZSTD = Zstd(ZSTD_LEVEL)

_MARGIN_BYTES = 2**24
"""Largest number of bytes of a shard beside its chunks: its index, and what compression adds to
chunks that it cannot make smaller."""

_ABSENT = 2**64 - 1
"""Offset and length of a chunk that is not in the file."""

_CRC = struct.Struct("<I")


def write_shard(path: Path, values: UInt8, shard: Sequence[int], chunk: Sequence[int]) -> None:
    """Write one shard under a temporary name, sync it, and rename it.

    A kill or a power cut leaves a whole shard or none.

    Args:
        path: file of the shard; its folders are made.
        values: uint8, content of the shard, cut to the array. Chunks that reach beyond it are
            filled with 0.
        shard: shape of a shard, with as many axes as ``values``.
        chunk: shape of a chunk; each side divides that of the shard.

    Raises:
        OSError: if the file system refuses.
        ValueError: if the values do not fit the shard.
    """
    fits = values.ndim == len(shard)
    if not fits or any(n > most for n, most in zip(values.shape, shard, strict=True)):
        raise ValueError(f"values {values.shape} do not fit a shard of {tuple(shard)}")
    content = _encoded(values, _grid(shard, chunk), chunk)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with part.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_shard(
    path: Path, extent: Sequence[int], shard: Sequence[int], chunk: Sequence[int]
) -> UInt8:
    """Read one shard, written by `write_shard` or by zarr.

    Args:
        path: file of the shard.
        extent: shape of the shard's content, cut to the array.
        shard: shape of a shard, with as many axes as ``extent``.
        chunk: shape of a chunk; each side divides that of the shard.

    Returns:
        uint8 of shape ``extent``; 0 where a chunk or the whole shard is missing.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the index is damaged (RuntimeError: if a chunk is).
    """
    values = np.zeros(tuple(extent), np.uint8)
    try:
        content = read_bytes(path, 2 * math.prod(shard) + _MARGIN_BYTES)
    except FileNotFoundError:
        return values
    grid = _grid(shard, chunk)
    n_footer = 16 * math.prod(grid) + _CRC.size
    index = _checked_index(path, content[-n_footer:], grid)
    for position in product(*map(range, grid)):
        offset, length = (int(n) for n in index[position])
        part = values[_region(position, chunk)]
        if part.size and offset != _ABSENT:
            pixels = np.empty(tuple(chunk), np.uint8)  # a few bytes can claim to be terabytes
            _ZSTD.decode(content[offset : offset + length], out=pixels)
            part[...] = pixels[tuple(map(slice, part.shape))]
    return values


def read_seal(path: Path, shard: Sequence[int], chunk: Sequence[int]) -> tuple[int, int]:
    """Read the size of a shard's file and the checksum of its index, without decoding a chunk.

    Args:
        path: file of the shard.
        shard: shape of a shard.
        chunk: shape of a chunk; each side divides that of the shard.

    Returns:
        the size (B) and the CRC32C of the index, which holds the offset and length of every chunk.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is empty, cut short, or has an index for another shape.
    """
    grid = _grid(shard, chunk)
    n_index = 16 * math.prod(grid)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - n_index - _CRC.size))
        footer = file.read(n_index + _CRC.size)
    index = _checked_index(path, footer, grid).reshape(-1, 2)
    stored = index[index[:, 0] != _ABSENT]
    if int(stored[:, 1].sum()) + len(footer) != size:
        raise ValueError(f"{path} is damaged: its size is not what its index says")
    return size, int(_CRC.unpack_from(footer, n_index)[0])


def _checked_index(path: Path, footer: bytes, grid: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return the offset and length of each chunk, uint64 ``[*grid, 2]``.

    Args:
        path: file of the shard, for the message.
        footer: the last bytes of the file: the index and its checksum.
        grid: number of chunks along each axis.

    Raises:
        ValueError: if the footer is too short or its checksum is wrong.
    """
    end = 16 * math.prod(grid)
    if len(footer) != end + _CRC.size or _CRC.unpack_from(footer, end) != (
        google_crc32c.value(footer[:end]),
    ):
        raise ValueError(f"{path} is damaged: the checksum of its index is wrong")
    return np.frombuffer(footer[:end], np.dtype("<u8")).reshape(*grid, 2)


def _encoded(values: UInt8, grid: tuple[int, ...], chunk: Sequence[int]) -> list[bytes]:
    """Encode the chunks that lie in the array at least in part, and the index of all chunks."""
    index = np.full((*grid, 2), _ABSENT, np.dtype("<u8"))
    content: list[bytes] = []
    end = 0
    for position in _morton_order(grid):
        part = values[_region(position, chunk)]
        if not part.size:
            continue
        if part.shape != tuple(chunk):
            part = np.pad(part, [(0, side - n) for n, side in zip(part.shape, chunk, strict=True)])
        content.append(_ZSTD.encode(np.ascontiguousarray(part)))
        index[position] = end, len(content[-1])
        end += len(content[-1])
    index_bytes = index.tobytes()
    return [*content, index_bytes, _CRC.pack(google_crc32c.value(index_bytes))]


def _grid(shard: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Return the number of chunks along each axis of a shard."""
    return tuple(n // side for n, side in zip(shard, chunk, strict=True))


def _region(position: tuple[int, ...], chunk: Sequence[int]) -> tuple[slice, ...]:
    """Return the region of a shard that one chunk covers."""
    return tuple(slice(n * side, (n + 1) * side) for n, side in zip(position, chunk, strict=True))


@lru_cache(maxsize=16)
def _morton_order(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """List all positions of a grid in Morton order, in which zarr writes chunks."""

    def interleaved(position: tuple[int, ...]) -> int:
        bits = (
            (n >> bit & 1) << bit * len(grid) + axis
            for axis, n in enumerate(position)
            for bit in range(64)
        )
        return sum(bits)

    return sorted(product(*map(range, grid)), key=interleaved)
