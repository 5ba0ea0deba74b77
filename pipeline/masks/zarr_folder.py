"""One OME-Zarr folder: its groups, its arrays of uint8, and their shards.

No other module imports the package zarr.
"""

import asyncio
import errno
import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodecIndexLocation, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.layout import ArrayShape
from noctile.pipeline.masks.shard import ZSTD_LEVEL, read_seal, read_shard, write_shard

_METADATA_BYTES = 2**24
"""Largest file of metadata that is read (B)."""

_ZSTD = ZstdCodec(level=ZSTD_LEVEL)

_CODECS, _INDEX_CODECS = (BytesCodec, ZstdCodec), (BytesCodec, Crc32cCodec)
"""Codecs of the chunks and of the index of a shard."""


class _BoundedZstd(ZstdCodec):
    """Zstd that decodes a chunk into its own size: a few bytes can claim to be terabytes."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(_decode, chunk_bytes, chunk_spec)


def _decode(content: Buffer, chunk: ArraySpec) -> Buffer:
    """Decode a chunk of uint8.

    Raises:
        ValueError: if it is not zstd, or is larger than a chunk (RuntimeError: if it is damaged).
    """
    pixels = np.zeros(math.prod(chunk.shape), np.uint8)
    Zstd().decode(content.as_numpy_array(), out=pixels)
    return chunk.prototype.buffer.from_array_like(pixels)


class _RegularFiles(LocalStore):
    """Store on a disk that reads regular files only: pipes and devices may never end."""

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Read a file, or a part of it; None if there is no such file.

        Raises:
            OSError: if it is no regular file, or one of metadata is too large.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            about = (self.root / key).stat()
            if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
                raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", key)
            if key.endswith(".json") and about.st_size > _METADATA_BYTES:
                raise OSError(errno.EFBIG, f"It has more than {_METADATA_BYTES} bytes", key)
        return await super().get(key, prototype, byte_range)


class ZarrFolder:
    """Zarr groups and arrays under one folder. Each array is opened once and checked then.

    Attributes:
        path: the folder.
        arrays: shape that each array must have, by its name inside the folder.
    """

    def __init__(self, path: Path, arrays: Mapping[str, ArrayShape]) -> None:
        self.path, self.arrays = path, dict(arrays)
        self._opened: dict[tuple[str, str], Any] = {}

    def create_group(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Create a group; the name of the folder's own group is empty."""
        zarr.create_group(LocalStore(self.path), path=name, attributes=dict(attributes))

    def set_attributes(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Replace the attributes of a group that exists."""
        group = zarr.open_group(LocalStore(self.path), path=name, mode="r+")
        group.attrs.put(dict(attributes))

    def create_array(self, name: str) -> None:
        """Create one of ``arrays``, filled with 0."""
        shape = self.arrays[name]
        self._opened[name, "r+"] = zarr.create_array(
            LocalStore(self.path),
            name=name,
            shape=shape.whole,
            dtype="uint8",
            shards=shape.shard,
            chunks=shape.chunk,
            compressors=_ZSTD,
            fill_value=0,
            dimension_names=("c", "y", "x")[-len(shape.whole) :],
        )

    def write_shard(self, name: str, key: tuple[int, ...], values: UInt8) -> None:
        """Write one whole shard of an array.

        Args:
            name: name of the array.
            key: position of the shard, along each axis.
            values: uint8, the shard's pixels, cut to the array.

        Raises:
            StoreError: if the file system refuses, or the array is not one that Noctile made.
        """
        todo = "free space or fix the permissions of its folder"
        with store_errors(self.path / name, "written", todo):
            self.open_array(name, "r+")
            shape = self.arrays[name]
            write_shard(self.shard_path(name, key), values, shape.shard, shape.chunk)

    def read_shard(self, name: str, key: tuple[int, ...], box: Box) -> UInt8:
        """Read one whole shard of an array with the axes y, x.

        Args:
            name: name of the array.
            key: position (row, col) of the shard.
            box: pixels of the shard, cut to the array.

        Returns:
            uint8 ``[box.height, box.width]``; 0 where nothing was written.

        Raises:
            StoreError: if the shard cannot be decoded.
        """
        with self._reading(name):
            shape = self.arrays[name]
            extent = (box.height, box.width)
            return read_shard(self.shard_path(name, key), extent, shape.shard, shape.chunk)

    def read_seal(self, name: str, key: tuple[int, ...]) -> tuple[int, int] | None:
        """Read size and checksum of a shard's index; None if there is no such shard.

        Raises:
            StoreError: if the shard is empty, torn or cannot be read.
        """
        path, shape = self.shard_path(name, key), self.arrays[name]
        with store_errors(path, "read", "it must be written again"):
            try:
                return read_seal(path, shape.shard, shape.chunk)
            except FileNotFoundError:
                return None

    def shard_path(self, name: str, key: tuple[int, ...]) -> Path:
        """Return the file of a shard, which need not exist."""
        return self.path.joinpath(name, "c", *map(str, key))

    def read(self, name: str, region: tuple[slice, ...] = (slice(None),)) -> UInt8:
        """Read a region of an array, by default all of it; 0 where nothing was written.

        Raises:
            StoreError: if the region cannot be decoded.
        """
        with self._reading(name) as array:
            values: UInt8 = np.asarray(array[region], np.uint8)
            return values

    def lazy_array(self, name: str) -> "zarr.Array[Any]":
        """Open an array for reading; pixels are read when it is indexed.

        Raises:
            StoreError: if it cannot be opened, or is not one that Noctile made.
        """
        with self._reading(name) as array:
            opened: zarr.Array[Any] = array
            return opened

    def open_array(self, name: str, mode: Literal["r", "r+"]) -> Any:
        """Open an array, or return it if it is open already.

        A folder may come from another program or be damaged. Its arrays are checked, because a
        wrong shape in a small file can ask for any amount of memory.

        Raises:
            ValueError: if shape, type, shards, chunks or, for writing, the codec are not as in
                ``arrays``.
        """
        if array := self._opened.get((name, mode)):
            return array
        store = _RegularFiles(self.path, read_only=mode == "r")
        array = zarr.open_array(store, path=name, mode=mode, zarr_format=3)
        shape = self.arrays[name]
        expected = (shape.whole, np.dtype(np.uint8), shape.shard, shape.chunk)
        found = (array.shape, array.dtype, array.shards, array.chunks)
        if found != expected:
            raise ValueError(
                f"its shape, type, shards and chunks {found} are not {expected} as Noctile makes "
                "them"
            )
        if mode == "r+" and array.compressors != (_ZSTD,):
            raise ValueError(
                f"its chunks are encoded by {array.compressors}, not by {_ZSTD} as Noctile's"
            )
        array = self._opened[name, mode] = _bounded(array)
        return array

    @contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        todo = f"delete {self.path.parent} to have the slide done again"
        with store_errors(self.path / name, "read", todo):
            yield self.open_array(name, "r")


def _bounded(array: "zarr.Array[Any]") -> "zarr.Array[Any]":
    """Return an array whose chunks are decoded within limits.

    Raises:
        ValueError: if its chunks or its shards are not encoded as those of Noctile.
    """
    about: Any = array.metadata
    sharding = about.codecs[0]
    kinds = [type(codec) for codec in (*sharding.codecs, *sharding.index_codecs)]
    at_end = sharding.index_location is ShardingCodecIndexLocation.end
    if len(about.codecs) > 1 or kinds != [*_CODECS, *_INDEX_CODECS] or not at_end:
        raise ValueError(f"its chunks are encoded by {about.codecs!r:.300}, not as Noctile's")
    to_bytes, zstd = sharding.codecs
    bounded = _BoundedZstd(level=zstd.level, checksum=zstd.checksum)
    codecs = (replace(sharding, codecs=(to_bytes, bounded)),)
    return zarr.Array(zarr.AsyncArray(replace(about, codecs=codecs), array.store_path))


def read_attributes(folder: Path, name: str) -> dict[str, Any]:
    """Read the attributes of a group.

    Raises:
        OSError: if there is no such group (ValueError: if it is damaged).
    """
    store = _RegularFiles(folder, read_only=True)
    group = zarr.open_group(store, path=name, mode="r", zarr_format=3)
    return group.attrs.asdict()


@contextmanager
def store_errors(path: Path, done: str, todo: str) -> Iterator[None]:
    """Turn the errors of disk and decoders into a `StoreError`.

    On damaged bytes zarr raises ValueError and zstd RuntimeError.

    Args:
        path: file or folder that the message names.
        done: ends the sentence "... cannot be".
        todo: advice to the user.

    Raises:
        StoreError: if the body raised such an error.
    """
    try:
        yield
    except (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise StoreError(f"{path} cannot be {done}: {error!r}; {todo}") from error
