"""Jobs on Dask workers: a local cluster, or a scheduler that runs already."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from pkgutil import resolve_name
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.client import Future
from distributed.scheduler import KilledWorker

from noctile import __version__
from noctile.pipeline.errors import UsageError
from noctile.workflows.engines.base import (
    ENGINE_LOST,
    NEVER_STOP,
    AnyJob,
    EngineLostError,
    Failure,
    Outcome,
    StopSignal,
    attempt,
)
from noctile.workflows.engines.local_cluster import LocalCluster
from noctile.workflows.engines.supervisor import Attempt, Supervisor
from noctile.workflows.processes import control

_START_TIMEOUT_S = 60

_STARTS = 3
"""Attempts to start a local cluster: a worker may be killed while it starts."""

_CHECK_S = 0.25
"""Time between two checks of the workers (s). A worker that takes 1 GB/s is a quarter of that over
its budget when it is found."""

_FETCH_TIMEOUT_S = 30
"""Time that a worker has to hand over an outcome of some hundred bytes (s); then it counts as
dead."""


@dataclass(slots=True)
class _Task:
    """An attempt that runs.

    Attributes:
        attempt: the attempt.
        future: Dask's future of its outcome.
        start: time when it was sent to a free worker (s, `time.monotonic`).
        killed_for: failure for which this engine killed its process, if it did.
    """

    attempt: Attempt
    future: Future[Any]
    start: float
    killed_for: Failure | None = None


class DaskEngine:
    """Runs jobs on Dask workers; pixels and models never pass through the scheduler.

    `Supervisor` decides which job runs next and what follows the death of a worker. This class
    starts jobs, fetches outcomes and kills processes.

    Args:
        processes: number of workers of a local cluster.
        gpus: numbers of the GPUs that the workers share; each worker sees one alone
            (``CUDA_VISIBLE_DEVICES``), as ``cuda``.
        env: further environment variables of the workers, e.g. ``OMP_NUM_THREADS``.
        preload: modules that workers need; imported once and shared, where that is possible.
        begin: function that each worker of a local cluster calls in a thread of its own when it
            starts; picklable. Its errors are ignored.
        memory_bytes: most memory of each worker of a local cluster (B); None: no budget.
        scheduler: address of a running scheduler, e.g. ``tcp://10.0.0.1:8786``; then no cluster is
            started.

    Raises:
        UsageError: if the scheduler does not answer or has no workers, or if its environment or
            that of a worker lacks this version of Noctile.
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
        self._do: Callable[[Any], Any]  # the function of the run that is under way
        self._prefix = f"noctile-{uuid4().hex[:8]}"  # two runs on one scheduler have different keys
        self._number = count()  # each attempt of a job has its own key
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._tasks: dict[str, _Task] = {}  # that run, by Dask's key
        self._supervisor = Supervisor(
            one_job_per_worker=scheduler is None, memory_bytes=memory_bytes or inf
        )
        self._local: LocalCluster | None = None
        self._slots, self._slots_seen = 0, time.monotonic()
        where = f"scheduler {scheduler}" if scheduler else "the local cluster"
        for left in reversed(range(1 if scheduler else _STARTS)):
            try:
                if scheduler is None:
                    self._local = LocalCluster(processes, gpus, env or {}, preload, begin)
                self._connect(scheduler, 1 if scheduler else processes)
                break
            except (OSError, TimeoutError, ValueError, RuntimeError) as error:
                self.close()
                if not left:
                    message = f"{where} does not answer or has no workers: {error}"
                    raise UsageError(message) from error
        if scheduler and (lacking := _lacks_noctile(self._client)):
            self.close()
            raise UsageError(
                f"{where}: {lacking}; install Noctile {__version__} in the environment of the "
                "scheduler and of every worker, and start them again"
            )

    def _connect(self, scheduler: str | None, workers: int) -> None:
        """Connect to the scheduler, or to the local cluster, and wait for its workers."""
        address: Any = self._local.cluster if self._local else scheduler
        self._client = Client(address, timeout=_START_TIMEOUT_S, set_as_default=False)
        self._client.wait_for_workers(workers, timeout=_START_TIMEOUT_S)

    @property
    def slots(self) -> int:
        """Number of jobs that can run at once; fewer while a worker is being replaced.

        Raises:
            EngineLostError: if the scheduler has gone.
        """
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
        self._slots, checked = self.slots, time.monotonic()
        while not stop.over():
            nothing_to_start = stop.asked() or self._fill(next_job)
            if nothing_to_start and not self._tasks:
                break
            if task := self._next_ended():
                if not (self._supervisor.has_quarantine or stop.asked()):
                    self._fill(next_job)  # no worker waits until this outcome has been fetched
                yield from self._outcomes(task)
            if time.monotonic() - checked > _CHECK_S:
                yield from self._check_workers()
                checked = time.monotonic()

    def _fill(self, next_job: Callable[[], AnyJob | None]) -> bool:
        """Start jobs on free workers; return True if a worker stays free for want of jobs."""
        attempts, exhausted = self._supervisor.next_attempts(
            len(self._tasks), self._slots, next_job
        )
        for one in attempts:
            key = f"{self._prefix}/{next(self._number)}/{one.job.key}"
            future = self._client.submit(attempt, self._do, one.job, key=key, pure=False)
            self._tasks[key] = _Task(one, future, time.monotonic())
            future.add_done_callback(self._ended.put)
        return exhausted

    def _next_ended(self) -> _Task | None:
        """A task that ends within `_CHECK_S`; None if there is none, or it was given up before."""
        try:
            future = self._ended.get(timeout=_CHECK_S)
        except Empty:
            return None
        return self._tasks.pop(str(future.key), None)

    def _outcomes(self, task: _Task) -> list[Outcome]:
        """Outcomes of a task that has ended: its own, and those of jobs that fail with it."""
        outcome = _fetch(task)
        if outcome is not None:
            return self._supervisor.ended(task.attempt, outcome)
        return self._supervisor.died(
            task.attempt,
            time.monotonic() - task.start,
            killed_for=task.killed_for,
            crash_dump=self._crash_dump(task.future),
        )

    def _check_workers(self) -> Iterator[Outcome]:
        """Kill workers that hold too much memory, or whose job has run for too long.

        Raises:
            EngineLostError: if no worker comes back.
        """
        now = time.monotonic()
        self._slots = self.slots
        if self._slots:
            self._slots_seen = now
        self._supervisor.check_workers(now - self._slots_seen)
        if self._local:
            for address, pid in self._local.pids().items():
                if failure := self._supervisor.memory_failure(control.memory_bytes(pid)):
                    self._kill_over_budget(self._local, address, pid, failure)
        for key, task in list(self._tasks.items()):
            if self._supervisor.is_late(task.attempt, now - task.start):
                yield from self._kill_late(key, task)

    def _kill_over_budget(
        self, local: LocalCluster, address: str, pid: int, failure: Failure
    ) -> None:
        keys = self._keys_at().get(address, ())
        tasks = [self._tasks[key] for key in keys if key in self._tasks]
        control.kill(pid)
        for task in tasks:
            task.killed_for = replace(failure, traceback=local.crash_dump(address))

    def _kill_late(self, key: str, task: _Task) -> list[Outcome]:
        """Fail a job that does not end, and kill its process. Other jobs there are tried again."""
        address = next((address for address, keys in self._keys_at().items() if key in keys), None)
        if address is None or task.future.done():  # it waits for a worker, or has just ended
            task.start = time.monotonic()
            return []
        del self._tasks[key]
        task.future.cancel()  # before the kill, or the scheduler gives it to the next worker
        self._slots -= self._client.nthreads().get(address, 0)
        crash_dump = ""
        if self._local:
            if pid := self._local.pids().get(address):
                control.kill(pid)
            crash_dump = self._local.crash_dump(address)
        else:
            self._client.restart_workers([address], timeout=_START_TIMEOUT_S, raise_for_error=False)
        seconds = time.monotonic() - task.start
        return self._supervisor.timed_out(task.attempt, seconds, crash_dump)

    def _keys_at(self) -> Mapping[str, Sequence[str]]:
        """Keys of the tasks that the scheduler has given to the worker at each address."""
        at: Mapping[str, Sequence[str]] = self._client.processing()
        return at

    def _crash_dump(self, future: Future[Any]) -> str:
        error = future.exception() if future.status == "error" else None
        if self._local is None or not isinstance(error, KilledWorker):
            return ""
        return self._local.crash_dump(error.last_worker.address)

    def close(self) -> None:
        """Stop the client and everything that this engine started, whatever it is doing."""
        if self._local is not None:
            self._local.abandon(busy=bool(self._tasks))
        if hasattr(self, "_client"):
            self._client.close()
        if self._local is not None:
            self._local.close()
            self._local = None


def _fetch(task: _Task) -> Outcome | None:
    """The outcome of a task; None if its worker died before it was handed over."""
    if task.future.status == "finished":
        try:
            outcome: Outcome = task.future.result(timeout=_FETCH_TIMEOUT_S)
        except (KilledWorker, CancelledError, TimeoutError, OSError):
            return None
        return outcome
    if task.future.status == "error":
        error = task.future.exception()
        if not isinstance(error, KilledWorker):
            message = (
                f"Dask could not run a step: {error!r}; check that scheduler and workers have the "
                f"same environment, with Noctile {__version__}"
            )
            failure = Failure(ENGINE_LOST, message, passing=True)  # another worker may do it
            return Outcome(task.attempt.job.key, None, failure, 0.0)
    return None


def _lacks_noctile(client: Client) -> str | None:
    """Name a process of a cluster that lacks this version of Noctile; None if all have it.

    The function that is sent is one of Python's own, so that it arrives in any environment. The
    scheduler unpickles jobs, too.
    """
    ask = resolve_name, "noctile:__version__"
    answers = client.run(*ask, on_error="return")
    try:
        answers["the scheduler"] = client.run_on_scheduler(*ask)
    except (ImportError, AttributeError) as error:
        answers["the scheduler"] = error
    for process, answer in answers.items():
        if isinstance(answer, Exception):
            return f"the Python of {process} lacks Noctile ({answer})"
        if answer != __version__:
            return f"{process} has Noctile {answer}, and this is Noctile {__version__}"
    return None
