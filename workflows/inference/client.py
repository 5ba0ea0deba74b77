"""The worker's side of an inference server: a predictor whose batches another process computes."""

import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from typing import TypeVar

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.pixel_labels import PixelLabels
from noctile.pipeline.models.predictor import check_tiles
from noctile.workflows.engines.base import EngineLostError
from noctile.workflows.inference.buffers import AnyArray, Request, lend_buffer

_Answer = TypeVar("_Answer")

_ATTEMPTS = 3
"""Servers that may die while they compute the same batch; more is not chance any more."""

_START_S = 60.0
"""Longest time until a server accepts connections (s). It does so before it loads anything."""


class ServedPredictor:
    """The model of an inference server. Several threads may call it; one waits for the other.

    When the server dies, its batch is sent again to the server that replaces it.

    Args:
        address: address of the server, a socket's path.

    Raises:
        EngineLostError: if there is no server.
        NoctileError: if the server cannot load the model; the server's own error.
    """

    def __init__(self, address: str) -> None:
        self._address, self._lock = address, threading.Lock()
        self._connection: Connection | None = None
        self._buffer: UInt8 | None = None
        self._card: ModelCard
        self._batch_size: int
        with self._lock:
            self._with_retries(self._connected)

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._card

    @property
    def batch_size(self) -> int:
        """Number of tiles in a batch, as the server chose it."""
        return self._batch_size

    def __call__(self, tiles: UInt8) -> AnyArray:
        """Class probabilities of a batch, a numpy array; see `Predictor`.

        Raises:
            ValueError: if the tiles have another shape or type than the card states.
        """
        (probabilities,) = self._answer(tiles, None)
        return probabilities

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """Labels of a batch; see `noctile.pipeline.models.predictor.predict_labels`.

        Raises:
            ValueError: if the tiles have another shape or type than the card states.
        """
        start, stop, _ = part.indices(self._card.tile_px)
        return PixelLabels(*self._answer(tiles, (start, stop)))

    def _answer(self, tiles: UInt8, part: tuple[int, int] | None) -> list[AnyArray]:
        check_tiles(tiles, self._card)
        request = Request(len(tiles), part)

        def ask() -> list[AnyArray]:
            connection = self._connected()
            buffer = self._buffer_for(connection, request)
            sent, *answer = request.arrays(self._card, buffer)
            sent[...] = tiles
            connection.send(request)
            if error := connection.recv():
                raise error
            return [values.copy() for values in answer]

        with self._lock:
            return self._with_retries(ask)

    def _with_retries(self, do: Callable[[], _Answer]) -> _Answer:
        for _ in range(_ATTEMPTS):
            try:
                return do()
            except (EOFError, OSError):
                self._connection = self._buffer = None
        raise EngineLostError(
            f"the process that computes on the GPU died {_ATTEMPTS} times over one batch"
        )

    def _connected(self) -> Connection:
        """The connection to the server, made when there is none."""
        if self._connection is None:
            connection = self._connect()
            hello = connection.recv()  # once the server has loaded its model
            if isinstance(hello, Exception):
                raise hello
            self._card, self._batch_size = hello
            self._connection = connection
        return self._connection

    def _connect(self) -> Connection:
        until = time.monotonic() + _START_S
        while True:
            try:
                return Client(self._address, "AF_UNIX")
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until:
                    message = "the process that computes on the GPU has gone for good"
                    raise EngineLostError(message) from None
                time.sleep(0.05)

    def _buffer_for(self, connection: Connection, request: Request) -> UInt8:
        """A shared buffer that is large enough for a request and its answer."""
        size = request.size_bytes(self._card)
        if self._buffer is None or len(self._buffer) < size:
            self._buffer = lend_buffer(connection, size)
        return self._buffer
