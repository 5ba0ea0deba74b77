"""Jobs on Dask workers: a local cluster, or one that runs already. The only file that knows Dask."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.client import Future, as_completed
from distributed.scheduler import KilledWorker
from distributed.utils import get_mp_context

from pipeline.errors import UsageError
from workflows.engines.base import Failure, Job, Outcome, attempt

WORKER_DIED = "worker_died"
"""Reason code of a job whose process dies whenever it runs."""

_START_TIMEOUT_S = 60
_QUEUED_PER_SLOT = 1  # one job waits at each worker while another runs, so that no worker waits for the client


class DaskEngine:
    """Runs jobs on Dask workers; pixels and models never pass through the scheduler.

    Args:
        processes: workers of a local cluster.
        gpus: numbers of the GPUs that they share out; each sees one alone (``CUDA_VISIBLE_DEVICES``), as ``cuda``.
        jobs_each: jobs that a worker does at once, in threads.
        env: further environment of the workers, e.g. ``OMP_NUM_THREADS``.
        preload: modules that workers need; imported once and shared, where that is possible (`_start_forkserver`).
        scheduler: address of a running scheduler, e.g. ``tcp://10.0.0.1:8786``; no cluster is started then.

    Raises:
        UsageError: if the scheduler does not answer or has no workers.
    """

    def __init__(
        self,
        processes: int,
        *,
        gpus: Sequence[str] = (),
        jobs_each: int = 1,
        env: dict[str, str] | None = None,
        preload: Sequence[str] = (),
        scheduler: str | None = None,
    ) -> None:
        self._prefix = f"noctile-{uuid4().hex[:8]}"  # two runs on one scheduler have different keys
        self._number = count()  # a job that is tried twice has two keys
        self._cluster: SpecCluster | None = None
        self._scratch: TemporaryDirectory[str] | None = None
        address: Any = scheduler
        if scheduler is None:
            if preload and not gpus:
                _start_forkserver(preload, env or {})
            self._scratch = TemporaryDirectory(prefix="noctile-")
            address = self._cluster = _local_cluster(processes, gpus, jobs_each, env or {}, Path(self._scratch.name))
        try:
            self._client = Client(address, timeout=_START_TIMEOUT_S, set_as_default=False)
            self._client.wait_for_workers(processes if scheduler is None else 1, timeout=_START_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError) as error:
            self.close()
            where = f"scheduler {scheduler}" if scheduler else "the local cluster"
            raise UsageError(f"{where} does not answer or has no workers: {error}") from error

    @property
    def slots(self) -> int:
        """Jobs that can run at once."""
        return int(sum(self._client.nthreads().values()))

    def run(self, next_job: Callable[[], Job | None]) -> Iterator[Outcome]:
        """See `Engine.run`.

        When a worker dies, Dask cannot tell which of its jobs killed it. All of them are suspects: once nothing else is
        under way, each runs again alone, and the one whose worker dies then is guilty. So a crash in a decoder fails
        its own slide and no other.
        """
        ended = as_completed(loop=self._client.loop)
        under_way: dict[str, Job] = {}
        suspects: list[Job] = []
        while True:
            alone = bool(suspects)
            if not alone:
                wanted = max(1, self.slots * (1 + _QUEUED_PER_SLOT))  # no slots: all workers are being restarted
                while len(under_way) < wanted and (job := next_job()) is not None:
                    self._start(job, under_way, ended)
            elif not under_way:
                self._start(suspects[-1], under_way, ended)
            if not under_way:
                return
            future: Future[Any] = next(ended)
            job = under_way.pop(str(future.key))
            on_trial = alone and job is suspects[-1]
            outcome = self._outcome(job, future)
            if on_trial:
                suspects.pop()
            if outcome.failure and outcome.failure.reason == WORKER_DIED and not on_trial:
                suspects.append(job)
            else:
                yield outcome
            future.release()

    def _start(self, job: Job, under_way: dict[str, Job], ended: as_completed) -> None:
        key = f"{self._prefix}/{next(self._number)}/{job.key}"
        under_way[key] = job
        ended.add(self._client.submit(attempt, job, key=key, pure=False))

    def close(self) -> None:
        """Stop the client and everything that this engine started."""
        if hasattr(self, "_client"):
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    @staticmethod
    def _outcome(job: Job, future: Future[Any]) -> Outcome:
        if future.status == "finished":
            outcome: Outcome = future.result()
            return outcome
        error = future.exception()
        if isinstance(error, KilledWorker):
            message = "the worker process died when it did this alone (a crash in native code, or out of memory)"
            return Outcome(job.key, None, Failure(WORKER_DIED, message, str(error)), 0.0)
        return Outcome(job.key, None, Failure("engine", f"Dask lost the job: {future.status} {error!r}"), 0.0)


def _start_forkserver(modules: Sequence[str], env: Mapping[str, str]) -> None:
    """Import what workers need once, in a process that they will be forked from; returns before that is done.

    Forked workers share its memory and start at once; spawned ones would each import torch and its like anew. On Linux
    only: elsewhere libraries do not bear a fork. Not for GPUs, whose driver is never set up before a fork, but whose
    libraries nobody has tried it with.

    Args:
        modules: imported there.
        env: its environment and that of the workers, e.g. ``OMP_NUM_THREADS``.
    """
    if sys.platform != "linux":
        return
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})  # also for workers that are restarted
    get_mp_context()  # sets a preload of its own, once
    multiprocessing.set_forkserver_preload(["distributed.nanny", *modules])
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _local_cluster(
    processes: int, gpus: Sequence[str], jobs_each: int, env: dict[str, str], scratch: Path
) -> SpecCluster:
    """Processes on this machine, reachable from this machine alone."""
    workers = {
        i: {
            "cls": Nanny,
            "options": {
                "nthreads": jobs_each,
                "host": "127.0.0.1",
                "local_directory": str(scratch),
                "memory_limit": 0,
                "silence_logs": logging.ERROR,
                "env": env | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}),
            },
        }
        for i in range(processes)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0", "allowed_failures": 0},
    }
    # Dask's own environment makes glibc give memory back after every tile, which costs more than the tile (RESULTS.md)
    with dask.config.set({"distributed.nanny.pre-spawn-environ": env}):
        return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.ERROR)
