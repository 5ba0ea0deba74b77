"""Jobs on Dask workers: a local cluster, or one that runs already. The only file that knows Dask."""

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import dask
import distributed.utils
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker
from distributed.client import Future
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker
from distributed.security import Security

from noctile.pipeline.errors import UsageError
from noctile.workflows.engines.base import (
    NEVER_STOP,
    OUT_OF_MEMORY,
    TIMEOUT,
    WORKER_DIED,
    AnyJob,
    EngineLostError,
    Failure,
    Job,
    Outcome,
    StopSignal,
    attempt,
)
from noctile.workflows.processes import control as process

_START_TIMEOUT_S = 60
_TICK_S = 0.25
"""How often workers are looked at (s): one that eats 1 GB/s is a quarter of that over its budget
when it is found."""

_FETCH_TIMEOUT_S = 30
"""How long a worker may take to hand over an outcome of a few hundred bytes (s); later it is taken
for dead."""

_NO_WORKERS_S = 120
"""Without any worker for so long (s), none comes back: a new one takes seconds."""

_DEATHS = 3
"""A job whose process dies so often is guilty, for it was alone at last; before that it is chance,
as the kernel may err."""


_CONFIG = {
    "distributed.scheduler.worker-ttl": None,  # a job's limit is what ends a worker that hangs
    "distributed.scheduler.worker-saturation": 1.0,  # nothing waits at a worker
    "distributed.deploy.lost-worker-timeout": "1000 days",  # nannies replace workers; the cluster gives none up
    "distributed.worker.use-file-locking": False,  # the folder is this run's alone
    "distributed.worker.profile.enabled": False,  # nobody looks at what it finds, a hundred times a second
    "distributed.admin.tick.interval": "1s",  # event loops are asked whether they respond, else 50 times a second
}
"""For a local cluster."""


@dataclass(slots=True)
class _Task:
    """A job that is under way.

    Attributes:
        job: what is done.
        future: its outcome.
        start: when it was sent to a worker that was free (s, `time.monotonic`).
        deaths: how many processes have died of it, or beside it.
        verdict: why this engine killed its process, if it did.
    """

    job: Job
    future: Future[Any]
    start: float
    deaths: int = 0
    verdict: Failure | None = None


class DaskEngine:
    """Runs jobs on Dask workers; pixels and models never pass through the scheduler.

    A job that runs past its limit fails at once and its process is killed; so is one that is over
    its memory budget. When a worker dies, Dask cannot tell which of its jobs killed it. All of them
    are suspects: once nothing else is under way, each runs again alone, and the one whose worker
    dies then is guilty. So a crash in a decoder fails its own slide and no other. Where workers
    have one job each, the job of a dead one is known: it is first tried again beside the others,
    and the run goes on at full width.

    Args:
        processes: workers of a local cluster.
        gpus: numbers of the GPUs that they are dealt out to; each sees one alone
            (``CUDA_VISIBLE_DEVICES``), as ``cuda``.
        env: further environment of the workers, e.g. ``OMP_NUM_THREADS``.
        preload: modules that workers need; imported once and shared, where that is possible
            (`_fork_workers`).
        begin: called in a thread of its own by each worker of a local cluster as soon as it is
            there, beside whatever it is given to do; picklable, and what it raises is its own
            affair.
        memory_bytes: budget of each worker of a local cluster (B); None for none.
        scheduler: address of a running scheduler, e.g. ``tcp://10.0.0.1:8786``; no cluster is
            started then.

    Raises:
        UsageError: if the scheduler does not answer or has no workers.
    """

    def __init__(
        self,
        processes: int,
        *,
        gpus: Sequence[str] = (),
        env: dict[str, str] | None = None,
        preload: Sequence[str] = (),
        begin: Callable[[], object] | None = None,
        memory_bytes: int | None = None,
        scheduler: str | None = None,
    ) -> None:
        self._do: Callable[[Any], Any]  # of the run that is under way
        self._prefix = f"noctile-{uuid4().hex[:8]}"  # two runs on one scheduler have different keys
        self._number = count()  # a job that is tried twice has two keys
        self._memory_bytes = memory_bytes or inf
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._tasks: dict[str, _Task] = {}  # under way
        self._again: list[_Task] = []  # their process died once, and they may run beside others
        self._suspects: list[_Task] = []
        self._one_each = scheduler is None
        self._local: _LocalCluster | None = None
        self._slots, self._slots_seen = 0, time.monotonic()
        for last in (
            (True,) if scheduler else (False, False, True)
        ):  # a worker may be killed while it starts
            try:
                if scheduler is None:
                    self._local = _LocalCluster(processes, gpus, env or {}, preload, begin)
                address: Any = self._local.cluster if self._local else scheduler
                self._client = Client(address, timeout=_START_TIMEOUT_S, set_as_default=False)
                self._client.wait_for_workers(
                    processes if scheduler is None else 1, timeout=_START_TIMEOUT_S
                )
                return
            except (OSError, TimeoutError, ValueError, RuntimeError) as error:
                self.close()
                if last:
                    where = f"scheduler {scheduler}" if scheduler else "the local cluster"
                    raise UsageError(
                        f"{where} does not answer or has no workers: {error}"
                    ) from error

    @property
    def slots(self) -> int:
        """Jobs that can run at once; fewer while a worker is being replaced."""
        try:
            return int(sum(self._client.nthreads().values()))
        except (OSError, TimeoutError) as error:
            raise EngineLostError(f"the Dask scheduler has gone: {error!r}") from error

    def run(
        self,
        do: Callable[[AnyJob], Any],
        next_job: Callable[[], AnyJob | None],
        stop: StopSignal = NEVER_STOP,
    ) -> Iterator[Outcome]:
        """See `Engine.run`."""
        self._do = do
        self._slots, looked = self.slots, time.monotonic()
        while not stop.over():
            nothing_to_start = stop.asked() or self._fill(next_job)
            if nothing_to_start and not self._tasks:
                break
            try:
                future = self._ended.get(timeout=_TICK_S)
            except Empty:
                pass
            else:
                if task := self._tasks.pop(str(future.key), None):
                    if not (self._suspects or stop.asked()):
                        self._fill(
                            next_job
                        )  # before this outcome is fetched, so that no worker waits for that
                    yield from self._end(task)
            if time.monotonic() - looked > _TICK_S:
                yield from self._watch()
                looked = time.monotonic()

    def _fill(self, next_job: Callable[[], Job | None]) -> bool:
        """Start what there is room for. Whether there is nothing to start although there is room.

        No job waits at a worker behind another: what was sent runs, so its time is its own, and so
        is a crash.
        """
        if self._suspects:
            if not self._tasks:
                self._start(self._suspects[-1].job, self._suspects[-1].deaths)
            return False
        while len(self._tasks) < self._slots:
            if self._again:
                task = self._again.pop(0)
                self._start(task.job, task.deaths)
            elif (job := next_job()) is None:
                return True
            else:
                self._start(job)
        return False

    def _start(self, job: Job, deaths: int = 0) -> None:
        key = f"{self._prefix}/{next(self._number)}/{job.key}"
        future = self._client.submit(attempt, self._do, job, key=key, pure=False)
        self._tasks[key] = _Task(job, future, time.monotonic(), deaths)
        future.add_done_callback(self._ended.put)

    def _end(self, task: _Task) -> Iterator[Outcome]:
        outcome = self._fetch(task)
        on_trial = bool(self._suspects) and self._suspects[-1].job is task.job
        if outcome is None:
            task.deaths += 1
            outcome = self._sentence(task)
        if on_trial:
            self._suspects.pop()
        if outcome is None:
            (self._again if self._one_each and task.deaths == 1 else self._suspects).append(task)
        else:
            yield outcome
            if outcome.failure and task.deaths:
                yield from self._sentence_fellows(task.job.group, outcome.failure)

    def _sentence(self, task: _Task) -> Outcome | None:
        """The failure of a job whose process died; None if it may be innocent and is to be tried
        again.
        """
        seconds = time.monotonic() - task.start
        if task.verdict and task.deaths > 1:
            return Outcome(task.job.key, None, task.verdict, seconds)
        if task.deaths < _DEATHS:
            return None
        message = f"the process that did it died {task.deaths} times, alone at last (a crash in native code, or killed)"
        return Outcome(
            task.job.key,
            None,
            Failure(WORKER_DIED, message, self._last_words(task.future)),
            seconds,
        )

    def _sentence_fellows(self, group: str, failure: Failure) -> Iterator[Outcome]:
        fellows = [task for task in (*self._again, *self._suspects) if task.job.group == group]
        self._again = [task for task in self._again if task.job.group != group]
        self._suspects = [task for task in self._suspects if task.job.group != group]
        yield from (Outcome(task.job.key, None, failure, 0.0) for task in fellows)

    @staticmethod
    def _fetch(task: _Task) -> Outcome | None:
        """What came of a job; None if the worker died over it, or before it could say."""
        if task.future.status == "finished":
            try:
                outcome: Outcome = task.future.result(timeout=_FETCH_TIMEOUT_S)
            except (KilledWorker, CancelledError, TimeoutError, OSError):
                return None
            return outcome
        if task.future.status == "error" and not isinstance(
            error := task.future.exception(), KilledWorker
        ):
            return Outcome(
                task.job.key, None, Failure("engine", f"Dask could not run it: {error!r}"), 0.0
            )
        return None

    def _watch(self) -> Iterator[Outcome]:
        """Look after the workers: none may run a job for too long, or hold too much memory."""
        now = time.monotonic()
        self._slots = self.slots
        if self._slots:
            self._slots_seen = now
        elif now - self._slots_seen > _NO_WORKERS_S:
            raise EngineLostError(f"no Dask worker for {_NO_WORKERS_S} s, and none comes back")
        if self._local:
            for address, pid in self._local.pids().items():
                if (used := process.memory_bytes(pid)) > self._memory_bytes:
                    self._kill_hungry(address, pid, used)
        for key, task in list(self._tasks.items()):
            if now - task.start > task.job.limit_s:
                yield from self._kill_late(key, task)

    def _kill_hungry(self, address: str, pid: int, used: int) -> None:
        message = (
            f"its process held {used / 1e9:.2f} GB, more than the budget of {self._memory_bytes / 1e9:.2f} GB; allow "
            "more (--max-memory), take fewer --workers or a smaller block_px"
        )
        verdict = Failure(OUT_OF_MEMORY, message)
        guests = [
            self._tasks[key] for key in self._keys_at().get(address, ()) if key in self._tasks
        ]
        process.kill(pid)
        for task in guests:
            task.verdict = replace(
                verdict, traceback=self._local.last_words(address) if self._local else ""
            )

    def _kill_late(self, key: str, task: _Task) -> Iterator[Outcome]:
        """Fail a job that does not end, and kill its process; who was beside it there is tried
        again.
        """
        address = next((address for address, keys in self._keys_at().items() if key in keys), None)
        if address is None or task.future.done():  # it waits for a worker, or has just ended
            task.start = time.monotonic()
            return
        del self._tasks[key]
        task.future.cancel()  # first, or the scheduler gives it to the next worker
        self._slots -= self._client.nthreads().get(address, 0)
        words = ""
        if self._local:
            if pid := self._local.pids().get(address):
                process.kill(pid)
            words = self._local.last_words(address)
        else:
            self._client.restart_workers([address], timeout=_START_TIMEOUT_S, raise_for_error=False)
        seconds = time.monotonic() - task.start
        message = (
            f"still running after {seconds:.0f} s, which was all the time it had left (--slide-timeout); its process "
            "was killed"
        )
        failure = Failure(TIMEOUT, message, words)
        yield Outcome(task.job.key, None, failure, seconds)
        self._suspects = [suspect for suspect in self._suspects if suspect.job is not task.job]
        yield from self._sentence_fellows(task.job.group, failure)

    def _keys_at(self) -> Mapping[str, Sequence[str]]:
        """What the scheduler has given to each worker."""
        at: Mapping[str, Sequence[str]] = self._client.processing()
        return at

    def _last_words(self, future: Future[Any]) -> str:
        error = future.exception() if future.status == "error" else None
        if self._local is None or not isinstance(error, KilledWorker):
            return ""
        return self._local.last_words(error.last_worker.address)

    def close(self) -> None:
        """Stop the client and everything that this engine started, whatever it is doing."""
        if self._local is not None:
            self._local.abandon(busy=bool(self._tasks))
        if hasattr(self, "_client"):
            self._client.close()
        if self._local is not None:
            self._local.close()
            self._local = None


class _WithoutHttp:
    """Scheduler or worker without the HTTP port that Dask opens, also with its dashboard off."""

    def start_http_server(self, *args: object, **options: object) -> None:
        """Replace the method of `distributed.node.ServerNode` that opens the port."""


class _Scheduler(_WithoutHttp, Scheduler):
    """Scheduler without an HTTP port."""


class _Worker(_WithoutHttp, Worker):
    """Worker without an HTTP port."""


class _LocalCluster:
    """Worker processes on this machine for this run alone; stopped workers are replaced.

    Every process of the cluster executes what a peer sends, and listens on 127.0.0.1, where each
    user of the machine can connect. So both ends of each connection must show a certificate (TLS).
    It is made for this run. Its key stays in the memory of the run's processes, except for the
    moment in which OpenSSL reads it from a private folder. (docs/decisions/0022)
    """

    def __init__(
        self,
        processes: int,
        gpus: Sequence[str],
        env: dict[str, str],
        preload: Sequence[str],
        begin: Callable[[], object] | None,
    ) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="cluster-", dir=process.home()))
        logging.getLogger("distributed").setLevel(
            logging.CRITICAL
        )  # silence_logs ends before its last messages come
        if preload:
            _fork_workers(preload, env)
        security = Security.temporary()
        workers = {
            i: {
                "cls": Nanny,
                "options": {
                    "security": security,
                    "worker_class": _Worker,
                    "nthreads": 1,
                    "host": "127.0.0.1",
                    "local_directory": str(self._scratch),
                    "memory_limit": 0,
                    "silence_logs": logging.CRITICAL,
                    "plugins": (_Guard(str(self._scratch), begin),),
                    "env": env | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}),
                },
            }
            for i in range(processes)
        }
        scheduler = {
            "cls": _Scheduler,
            "options": {
                "security": security,
                "protocol": "tls",
                "host": "127.0.0.1",
                "port": 0,
                "dashboard": False,
                "allowed_failures": 0,
            },
        }
        dask.config.set({**_CONFIG, "temporary-directory": str(self._scratch)})
        # Dask's own environment makes glibc give memory back after every tile, costing more than
        # the tile (RESULTS.md)
        with dask.config.set({"distributed.nanny.pre-spawn-environ": env}):
            self.cluster = SpecCluster(
                workers=workers,
                scheduler=scheduler,
                security=security,
                silence_logs=logging.CRITICAL,
            )

    def pids(self) -> dict[str, int]:
        """Process number of the worker at each address.

        A worker is given jobs before its nanny has heard of its address, and if the first holds the
        interpreter's lock, the nanny never does: workers leave it in a file.
        """
        found = {}
        for nanny in self.cluster.workers.values():
            if (pid := nanny.pid) and (path := _address(self._scratch, pid)).exists():
                found[path.read_text(encoding="ascii")] = pid
        return found

    def last_words(self, address: str) -> str:
        """What the worker that was at an address wrote when it died: the stack of each thread; ""
        for nothing.
        """
        path = _last_words(self._scratch, address)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def abandon(self, *, busy: bool) -> None:
        """Replace no worker any more; kill those that are at work."""
        for nanny in self.cluster.workers.values():
            nanny.close_gracefully()
            if busy and nanny.pid:
                process.end(nanny.pid)

    def close(self) -> None:
        """Stop the workers and remove what they wrote."""
        self.cluster.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _address(folder: Path, pid: int) -> Path:
    return folder / f"address-{pid}.txt"


def _last_words(folder: Path, address: str) -> Path:
    return folder / f"last-words-{address.rpartition(':')[2]}.txt"


class _Guard(WorkerPlugin):
    """Makes each worker process deaf to Ctrl-C, not outlive the run, and say where it is, and was
    when it died.

    Then it begins what the worker's first job would wait for.
    """

    def __init__(self, folder: str, begin: Callable[[], object] | None) -> None:
        self._folder, self._begin = folder, begin

    def setup(self, worker: Worker) -> None:
        """Called in the worker's main thread when it starts, before it is given any job."""
        folder = Path(self._folder)
        process.deaf(_last_words(folder, worker.address))
        process.die_with_parent()
        path = _address(folder, os.getpid())
        part = path.with_suffix(".part")
        part.write_text(worker.address, encoding="ascii")
        part.replace(path)
        if self._begin:
            threading.Thread(target=self._begin, name="begin", daemon=True).start()


def _fork_workers(modules: Sequence[str], env: Mapping[str, str]) -> None:
    """Have workers forked from one process, also those that replace others; see
    `process.start_forkserver`.
    """
    if sys.platform == "linux":
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
        # or else Dask imports all that it would preload itself, pandas among it, which takes 0.2 s
        distributed.utils._forkserver_preload_set = True  # type: ignore[attr-defined, unused-ignore]
        process.start_forkserver(modules, env)
