"""Inference servers: one process computes on each GPU for all workers of this machine.

Processes that share a GPU take turns on it, and each of them loads the model. So workers read tiles
and stitch answers, and another process computes. Tiles and answers lie in shared buffers; a few
bytes for each batch pass through a socket in a private folder. Batches are not merged: the answer
does not depend on the other workers. On Linux only, where memory without a name can be shared.
(docs/decisions/0018) A server that hangs is replaced like one that died. (docs/decisions/0026)
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, Listener
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import NoctileError
from noctile.pipeline.models.pinned_memory import copy_to_host, gpu_is_broken
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.workflows.inference.buffers import BorrowedBuffer, Request
from noctile.workflows.inference.watch import PING, Unfinished, Watch
from noctile.workflows.processes import control
from noctile.workflows.processes.output import escape_output
from noctile.workflows.processes.scratch import scratch_folder
from noctile.workflows.processes.signals import (
    children_ignoring_stop_signals,
    dump_crashes_to,
    ignore_stop_signals,
)

CONCURRENT_BATCHES = 3
"""Batches that a server computes at once, each in a thread and a stream of its own. One is copied,
or is being started, while others are computed. (benchmarks/history/gpu.md)"""

_SWITCH_S = 0.0005
"""Longest time that a thread of a server keeps the interpreter's lock while others wait (s). With
Python's default of 5 ms a thread that starts kernels makes the others wait, and the GPU with them.
(docs/decisions/0018)"""

_RESTART_S = 0.5
"""Time between the death of a server and the start of the next one (s)."""


class InferenceServers:
    """A server for each GPU, replaced when it dies, until this object is closed.

    Args:
        gpus: names of the GPUs, as in ``CUDA_VISIBLE_DEVICES``; each server sees one, as ``cuda``.
        load: function that loads the model in the server; picklable.

    Attributes:
        addresses: address of the server of each GPU.
    """

    def __init__(self, gpus: Sequence[str], load: Callable[[], Predictor]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gpus-", dir=scratch_folder()))
        self.addresses: Mapping[str, str] = {
            gpu: str(self._folder / str(k)) for k, gpu in enumerate(gpus)
        }
        self._load, self._closed, self._lock = load, threading.Event(), threading.Lock()
        self._processes: dict[str, BaseProcess] = {}
        with children_ignoring_stop_signals():
            for gpu in gpus:
                self._start(gpu)
        self._threads = [
            threading.Thread(target=self._keep_alive, args=(gpu,), daemon=True) for gpu in gpus
        ]
        for thread in self._threads:
            thread.start()

    def _start(self, gpu: str) -> None:
        server = get_context("spawn").Process(
            target=_serve,
            args=(self.addresses[gpu], gpu, self._load),
            name=f"gpu-{gpu}",
            daemon=True,
        )
        with self._lock:
            if not self._closed.is_set():
                server.start()
                self._processes[gpu] = server

    def _keep_alive(self, gpu: str) -> None:
        while not self._closed.is_set():
            server = self._processes[gpu]
            with closing(Watch(self.addresses[gpu])) as watch:
                while server.is_alive() and not self._closed.is_set():
                    server.join(watch.interval_s)
                    if watch.hangs() and server.is_alive():
                        control.kill(server.pid or 0)
            server.join()
            if not self._closed.wait(_RESTART_S):
                self._start(gpu)

    def close(self) -> None:
        """End the servers, whatever they are doing."""
        self._closed.set()
        with self._lock:
            for server in self._processes.values():
                server.kill()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)


def _serve(address: str, gpu: str, load: Callable[[], Predictor]) -> None:
    """Serve one GPU until this process is killed."""
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    sys.setswitchinterval(_SWITCH_S)
    ignore_stop_signals()
    escape_output()
    dump_crashes_to(Path(f"{address}-crash.txt"))
    control.end_with_parent()
    Path(address).unlink(missing_ok=True)
    with Listener(address, "AF_UNIX", backlog=128) as listener:
        try:
            server = _Server(load())
            hello: Any = (server.predict.card, server.predict.batch_size)
        except Exception as error:  # noqa: BLE001 - each worker is told, and each job fails with it
            server, hello = None, _portable(error)
        while True:
            connection = listener.accept()
            with suppress(OSError):
                connection.send(hello)
                if server is not None:
                    threading.Thread(target=server.attend, args=(connection,), daemon=True).start()


class _Server:
    """Answers batches of any number of workers, in the order in which they arrive."""

    def __init__(self, predict: Predictor) -> None:
        self.predict = predict
        self._unfinished = Unfinished()
        self._pool = ThreadPoolExecutor(CONCURRENT_BATCHES, "batches")

    def attend(self, connection: Connection) -> None:
        """Answer one worker until it goes."""
        with connection, ExitStack() as buffers, suppress(EOFError, OSError):
            while True:
                message = connection.recv()
                if message == PING:
                    connection.send(self._unfinished.oldest())
                elif isinstance(message, int):  # the size of a buffer, whose handle follows
                    buffers.close()
                    borrowed = BorrowedBuffer(recv_handle(connection), message)
                    buffer = buffers.enter_context(closing(borrowed))
                else:
                    with self._unfinished.one_more():
                        answer = self._pool.submit(self._compute, message, buffer.bytes).result()
                    connection.send(answer)

    def _compute(self, request: Request, buffer: UInt8) -> Exception | None:
        """Write the answer to a request into its buffer; return the error if it fails."""
        try:
            tiles, *answer = request.arrays(self.predict.card, buffer)
            if request.part is None:
                fields = [self.predict(tiles)]
            else:
                labels = predict_labels(self.predict, tiles, slice(*request.part))
                fields = [labels.label, labels.tumor, labels.confidence]
            copy_to_host(fields, answer)
        except Exception as error:  # noqa: BLE001 - it is raised in the worker
            if gpu_is_broken():
                os._exit(1)  # the server that replaces this one may find a GPU in order
            return _portable(error)
        return None


def _portable(error: Exception) -> Exception:
    """The error, or one with the same text where another process may not know its class."""
    if isinstance(error, NoctileError):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
