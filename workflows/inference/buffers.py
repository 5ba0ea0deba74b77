"""Shared buffers: tiles and answers of a batch, in memory that worker and server both see."""

import math
import mmap
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.pinned_memory import pin, unpin

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for the answer to one batch, whose tiles lie in the shared buffer.

    Attributes:
        n: number of tiles.
        part: rows, and columns, of each tile for which labels are wanted (px, half-open); None asks
            for the probabilities of all pixels.
    """

    n: int
    part: tuple[int, int] | None

    def layout(self, card: ModelCard) -> list[tuple[tuple[int, ...], type]]:
        """Shape and type of the tiles and of each array of the answer, in the order of the buffer.

        Args:
            card: card of the model.
        """
        side = card.tile_px
        tiles: list[tuple[tuple[int, ...], type]] = [((self.n, side, side, 3), np.uint8)]
        if self.part is None:
            return [*tiles, ((self.n, len(card.classes), side, side), np.float32)]
        height = len(range(side)[slice(*self.part)])
        return [*tiles, *[((self.n, height, height), np.uint8)] * 3]

    def arrays(self, card: ModelCard, buffer: UInt8) -> list[AnyArray]:
        """The arrays of `layout` as views of a buffer of at least `size_bytes`."""
        views: list[AnyArray] = []
        offset = 0
        for shape, kind in self.layout(card):
            size = _bytes_of(shape, kind)
            views.append(buffer[offset : offset + size].view(kind).reshape(shape))
            offset += size
        return views

    def size_bytes(self, card: ModelCard) -> int:
        """Size of all arrays together (B)."""
        return sum(_bytes_of(*array) for array in self.layout(card))


def _bytes_of(shape: tuple[int, ...], kind: type) -> int:
    return math.prod(shape) * np.dtype(kind).itemsize


def lend_buffer(connection: Connection, size: int) -> UInt8:
    """Make a buffer without a name and send it to a server, which sees it from then on.

    Args:
        connection: connection to the server.
        size: size of the buffer (B).
    """
    memory = os.memfd_create("noctile-tiles")
    try:
        os.ftruncate(memory, size)
        buffer = np.frombuffer(mmap.mmap(memory, size), np.uint8)
        connection.send(size)
        send_handle(connection, memory, None)
    finally:
        os.close(memory)
    return buffer


class BorrowedBuffer:
    """A buffer that a worker lent. Its pages are pinned, so that the GPU copies to and from it.

    Args:
        handle: file descriptor of the memory; it is closed here.
        size: size of the buffer (B).

    Attributes:
        bytes: the buffer, uint8 ``[size]``.
    """

    def __init__(self, handle: int, size: int) -> None:
        try:
            self.bytes = np.frombuffer(mmap.mmap(handle, size), np.uint8)
        finally:
            os.close(handle)
        self._pinned = pin(self.bytes)

    def close(self) -> None:
        """Unpin the buffer: its worker has gone, or lends a larger one."""
        if self._pinned:
            unpin(self.bytes)
