"""One process for each GPU looks at the tiles of all workers: an inference server, reached from
this machine alone.

Processes that share a GPU take turns on it, and each loads the model. So workers read tiles and
join answers, and another process computes. Tiles and answers lie in memory that both see; a few
bytes for each batch pass through a socket. What a batch holds is the worker's affair, and batches
are not joined: the answer does not depend on who asks when. On Linux only, where memory can be lent
without a name. (docs/decisions/0018)
"""

import math
import mmap
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import NoctileError
from noctile.pipeline.models.card import ModelCard, Predictor
from noctile.pipeline.models.load import check_tiles
from noctile.pipeline.models.pinned_memory import bring, is_broken, pin, unpin
from noctile.pipeline.models.pixel_labels import PixelLabels, predict_labels
from noctile.workflows.engines.base import EngineLostError
from noctile.workflows.processes import control as process

_Array = npt.NDArray[Any]
_Answer = TypeVar("_Answer")

LOOKS = 3
"""Batches that a server computes at once, each in a thread and a stream of its own: one goes up or
down, or is being started, while others are computed. (benchmarks/RESULTS.md)"""

_SWITCH_S = 0.0005
"""A server's threads hand the interpreter's lock on after so long (s); by Python's own rule, 5 ms,
one that starts kernels lets all others wait, and the GPU with them. (docs/decisions/0018)"""

_TRIES = 3
"""Servers that may die over one batch, before it is not chance any more."""

_START_S = 60.0
"""How long a server may take to be there (s); it is there before it loads anything."""

_PAUSE_S = 0.5
"""Between the death of a server and the start of the next (s)."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a worker asks of a server; the tiles lie in the room that both see.

    Attributes:
        n: tiles.
        part: rows, and columns, that are to be decided; None: probabilities of all pixels.
    """

    n: int
    part: tuple[int, int] | None

    def layout(self, card: ModelCard) -> list[tuple[tuple[int, ...], type]]:
        """Shape and type of the tiles and of each array of the answer, one behind another."""
        side = card.tile_px
        tiles: list[tuple[tuple[int, ...], type]] = [((self.n, side, side, 3), np.uint8)]
        if self.part is None:
            return [*tiles, ((self.n, len(card.classes), side, side), np.float32)]
        height = len(range(side)[slice(*self.part)])
        return [*tiles, *[((self.n, height, height), np.uint8)] * 3]

    def arrays(self, card: ModelCard, room: UInt8) -> list[_Array]:
        """The arrays themselves, in a room of `size_bytes` or more."""
        found: list[_Array] = []
        at = 0
        for shape, kind in self.layout(card):
            size = _bytes_of(shape, kind)
            found.append(room[at : at + size].view(kind).reshape(shape))
            at += size
        return found

    def size_bytes(self, card: ModelCard) -> int:
        """Of all of them together (B)."""
        return sum(_bytes_of(*array) for array in self.layout(card))


def _bytes_of(shape: tuple[int, ...], kind: type) -> int:
    return math.prod(shape) * np.dtype(kind).itemsize


class ServedPredictor:
    """The model of an inference server. Safe to call from several threads; one waits for the other.

    When the server dies, its batch is asked again of the one that replaces it.

    Args:
        address: of the server.

    Raises:
        EngineLostError: if there is no server.
        NoctileError: if it cannot load the model; as it says it.
    """

    def __init__(self, address: str) -> None:
        self._address, self._lock = address, threading.Lock()
        self._connection: Connection | None = None
        self._room: UInt8 | None = None
        self._card: ModelCard
        self._batch_size: int
        with self._lock:
            self._persist(self._connected)

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._card

    @property
    def batch_size(self) -> int:
        """As the server's."""
        return self._batch_size

    def __call__(self, tiles: UInt8) -> _Array:
        """See `Predictor`; a numpy array.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        (probabilities,) = self._asked(tiles, None)
        return probabilities

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """See `noctile.pipeline.models.pixel_labels.predict_labels`.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        start, stop, _ = part.indices(self._card.tile_px)
        return PixelLabels(*self._asked(tiles, (start, stop)))

    def _asked(self, tiles: UInt8, part: tuple[int, int] | None) -> list[_Array]:
        check_tiles(tiles, self._card)
        batch = _Batch(len(tiles), part)

        def ask() -> list[_Array]:
            connection = self._connected()
            room = self._room_for(connection, batch)
            there, *answer = batch.arrays(self._card, room)
            there[...] = tiles
            connection.send(batch)
            if error := connection.recv():
                raise error
            return [values.copy() for values in answer]

        with self._lock:
            return self._persist(ask)

    def _persist(self, do: Callable[[], _Answer]) -> _Answer:
        for _ in range(_TRIES):
            try:
                return do()
            except (EOFError, OSError):
                self._connection = self._room = None
        raise EngineLostError(
            f"the process that computes on the GPU died {_TRIES} times over one batch"
        )

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        until = time.monotonic() + _START_S
        while True:
            try:
                connection: Connection = Client(self._address, "AF_UNIX")
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until:
                    raise EngineLostError(
                        "the process that computes on the GPU has gone for good"
                    ) from None
                time.sleep(0.05)
        said = connection.recv()  # once its model is loaded
        if isinstance(said, Exception):
            raise said
        self._card, self._batch_size = said
        self._connection = connection
        return connection

    def _room_for(self, connection: Connection, batch: _Batch) -> UInt8:
        size = batch.size_bytes(self._card)
        if self._room is not None and len(self._room) >= size:
            return self._room
        memory = os.memfd_create("noctile-tiles")
        try:
            os.ftruncate(memory, size)
            room = np.frombuffer(mmap.mmap(memory, size), np.uint8)
            connection.send(size)
            send_handle(connection, memory, None)
        finally:
            os.close(memory)
        self._room = room
        return room


class InferenceServers:
    """A server for each GPU, replaced when it dies, until this is closed.

    Args:
        gpus: their names, as in ``CUDA_VISIBLE_DEVICES``; each server sees one alone, as ``cuda``.
        load: loads the model, there; picklable.

    Attributes:
        addresses: of each GPU's server.
    """

    def __init__(self, gpus: Sequence[str], load: Callable[[], Predictor]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gpus-", dir=process.home()))
        self.addresses: Mapping[str, str] = {
            gpu: str(self._folder / str(k)) for k, gpu in enumerate(gpus)
        }
        self._load, self._over, self._lock = load, threading.Event(), threading.Lock()
        self._processes: dict[str, BaseProcess] = {}
        with process.ignoring_stop_signals():
            for gpu in gpus:
                self._start(gpu)
        self._threads = [
            threading.Thread(target=self._keep, args=(gpu,), daemon=True) for gpu in gpus
        ]
        for thread in self._threads:
            thread.start()

    def _start(self, gpu: str) -> None:
        arguments = (self.addresses[gpu], gpu, self._load)
        server = get_context("spawn").Process(
            target=_serve, args=arguments, name=f"gpu-{gpu}", daemon=True
        )
        with self._lock:
            if not self._over.is_set():
                server.start()
                self._processes[gpu] = server

    def _keep(self, gpu: str) -> None:
        while not self._over.is_set():
            self._processes[gpu].join()
            if not self._over.wait(_PAUSE_S):
                self._start(gpu)

    def close(self) -> None:
        """End them, whatever they are doing."""
        self._over.set()
        with self._lock:
            for server in self._processes.values():
                server.kill()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)


def _serve(address: str, gpu: str, load: Callable[[], Predictor]) -> None:
    """What a server does, until it is killed."""
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    sys.setswitchinterval(_SWITCH_S)
    process.deaf(Path(f"{address}-last-words.txt"))
    process.die_with_parent()
    Path(address).unlink(missing_ok=True)
    with Listener(address, "AF_UNIX", backlog=128) as listener:
        try:
            server = _Server(load())
            hello: Any = (server.predict.card, server.predict.batch_size)
        except Exception as error:  # noqa: BLE001 - whatever it was, each worker is told, and each job fails of it
            server, hello = None, _portable(error)
        while True:
            connection = listener.accept()
            with suppress(OSError):
                connection.send(hello)
                if server is not None:
                    threading.Thread(target=server.attend, args=(connection,), daemon=True).start()


class _Server:
    """Answers batches of any number of workers, in the order in which they come."""

    def __init__(self, predict: Predictor) -> None:
        self.predict = predict
        self._looks = ThreadPoolExecutor(LOOKS, "looks")

    def attend(self, connection: Connection) -> None:
        """Answer one worker until it goes."""
        with connection, ExitStack() as rooms, suppress(EOFError, OSError):
            while True:
                asked = connection.recv()
                if isinstance(asked, int):
                    rooms.close()
                    room = rooms.enter_context(closing(_Room(recv_handle(connection), asked)))
                else:
                    connection.send(self._looks.submit(self._answer, asked, room.bytes).result())

    def _answer(self, batch: _Batch, room: UInt8) -> Exception | None:
        try:
            tiles, *places = batch.arrays(self.predict.card, room)
            if batch.part is None:
                fields = [self.predict(tiles)]
            else:
                said = predict_labels(self.predict, tiles, slice(*batch.part))
                fields = [said.label, said.tumor, said.confidence]
            bring(fields, places)
        except Exception as error:  # noqa: BLE001 - it is the worker's
            if is_broken():
                os._exit(1)  # the one that replaces this process may find the GPU as it should be
            return _portable(error)
        return None


class _Room:
    """Memory that a worker lends; a GPU copies from there, and to there, by itself.

    Args:
        handle: of the memory; closed here.
        size: bytes.
    """

    def __init__(self, handle: int, size: int) -> None:
        try:
            self.bytes = np.frombuffer(mmap.mmap(handle, size), np.uint8)
        finally:
            os.close(handle)
        self._pinned = pin(self.bytes)

    def close(self) -> None:
        """Its worker has gone, or lends more."""
        if self._pinned:
            unpin(self.bytes)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same: another process need not know its class."""
    return (
        error
        if isinstance(error, NoctileError)
        else RuntimeError(f"{type(error).__name__}: {error}")
    )
