"""Dask workers on this machine, for one run alone."""

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask
import distributed.utils
from distributed import Nanny, Scheduler, SpecCluster, Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.security import Security

from noctile.workflows.processes import control
from noctile.workflows.processes.forkserver import start_forkserver
from noctile.workflows.processes.output import escape_output
from noctile.workflows.processes.scratch import scratch_folder
from noctile.workflows.processes.signals import dump_crashes_to, ignore_stop_signals

_CONFIG = {
    "distributed.scheduler.worker-ttl": None,  # the limit of a job ends a worker that hangs
    "distributed.scheduler.worker-saturation": 1.0,  # no job waits at a worker
    "distributed.deploy.lost-worker-timeout": "1000 days",  # nannies replace workers
    "distributed.worker.use-file-locking": False,  # no other cluster uses the folder
    "distributed.worker.profile.enabled": False,  # it samples a hundred times a second, unused
    "distributed.admin.tick.interval": "1s",  # the check of event loops runs 50 times a second
}


class LocalCluster:
    """Worker processes on this machine for this run alone; dead workers are replaced.

    Every process of the cluster executes what a peer sends, and listens on 127.0.0.1, where each
    user of the machine can connect. So both ends of each connection must show a certificate (TLS).
    It is made for this run. Its key stays in the memory of the run's processes, except for the
    moment in which OpenSSL reads it from a private folder. (docs/decisions/0022) That folder lies
    in the scratch folder of this process, so that it is removed also after a kill.

    Args:
        processes: number of workers, with one thread each.
        gpus: numbers of the GPUs that the workers share; each worker sees one, as ``cuda``.
        env: further environment variables of the workers, e.g. ``OMP_NUM_THREADS``.
        preload: modules that workers need; imported once and shared, where that is possible.
        begin: function that each worker calls in a thread of its own when it starts; picklable.

    Attributes:
        cluster: Dask's cluster; `distributed.Client` takes it as an address.
    """

    def __init__(
        self,
        processes: int,
        gpus: Sequence[str],
        env: dict[str, str],
        preload: Sequence[str],
        begin: Callable[[], object] | None,
    ) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="cluster-", dir=scratch_folder()))
        self._temporary, tempfile.tempdir = tempfile.tempdir, str(scratch_folder())
        env = {**env, "TMPDIR": str(scratch_folder())}
        # SpecCluster's silence_logs ends before Dask's last messages come
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if preload and sys.platform == "linux":
            dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
            # without this Dask imports its own preloads too, pandas among them: 0.2 s
            distributed.utils._forkserver_preload_set = True  # type: ignore[attr-defined, unused-ignore]
            start_forkserver(preload, env)
        security = Security.temporary()
        options = self._worker_options(security, begin)
        workers = {
            i: {"cls": Nanny, "options": {**options, "env": env | _visible_gpu(gpus, i)}}
            for i in range(processes)
        }
        dask.config.set({**_CONFIG, "temporary-directory": str(self._scratch)})
        # Dask's own environment makes glibc return memory after every tile, which costs more than
        # the tile (benchmarks/history/memory.md)
        with dask.config.set({"distributed.nanny.pre-spawn-environ": env}):
            self.cluster = SpecCluster(
                workers=workers,
                scheduler=_scheduler(security),
                security=security,
                silence_logs=logging.CRITICAL,
            )

    def _worker_options(
        self, security: Security, begin: Callable[[], object] | None
    ) -> dict[str, Any]:
        return {
            "security": security,
            "worker_class": _Worker,
            "nthreads": 1,
            "host": "127.0.0.1",
            "local_directory": str(self._scratch),
            "memory_limit": 0,
            "silence_logs": logging.CRITICAL,
            "plugins": (_WorkerSetup(str(self._scratch), begin),),
        }

    def pids(self) -> dict[str, int]:
        """Process number of the worker at each address.

        The workers leave their addresses in files. A worker is given jobs before its nanny knows
        its address; if the first job holds the interpreter's lock, the nanny never learns it.
        """
        found = {}
        for nanny in self.cluster.workers.values():
            if (pid := nanny.pid) and (path := _address_file(self._scratch, pid)).exists():
                found[path.read_text(encoding="ascii")] = pid
        return found

    def crash_dump(self, address: str) -> str:
        """Stacks that the worker at an address wrote when it died; "" if it wrote none."""
        path = _crash_dump_file(self._scratch, address)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def abandon(self, *, busy: bool) -> None:
        """Replace no worker from now on.

        Args:
            busy: True if jobs run; their workers are killed.
        """
        for nanny in self.cluster.workers.values():
            nanny.close_gracefully()
            if busy and nanny.pid:
                control.end(nanny.pid)

    def close(self) -> None:
        """Stop the workers and remove the files of the cluster."""
        self.cluster.close()
        tempfile.tempdir = self._temporary
        shutil.rmtree(self._scratch, ignore_errors=True)


class _WithoutHttp:
    """Scheduler or worker without the HTTP port that Dask opens, also with its dashboard off."""

    def start_http_server(self, *args: object, **options: object) -> None:
        """Replace the method of `distributed.node.ServerNode` that opens the port."""


class _Scheduler(_WithoutHttp, Scheduler):
    """Scheduler without an HTTP port."""


class _Worker(_WithoutHttp, Worker):
    """Worker without an HTTP port."""


class _WorkerSetup(WorkerPlugin):
    """Prepares each worker process: signals, output, end with the run, address, crash dump."""

    def __init__(self, folder: str, begin: Callable[[], object] | None) -> None:
        self._folder, self._begin = folder, begin

    def setup(self, worker: Worker) -> None:
        """Prepare a worker; Dask calls this in its main thread, before it is given a job."""
        folder = Path(self._folder)
        ignore_stop_signals()
        escape_output()
        dump_crashes_to(_crash_dump_file(folder, worker.address))
        control.end_with_parent()
        path = _address_file(folder, os.getpid())
        part = path.with_suffix(".part")
        part.write_text(worker.address, encoding="ascii")
        part.replace(path)
        if self._begin:
            threading.Thread(target=self._begin, name="begin", daemon=True).start()


def _scheduler(security: Security) -> dict[str, Any]:
    options = {
        "security": security,
        "protocol": "tls",
        "host": "127.0.0.1",
        "port": 0,
        "dashboard": False,
        "allowed_failures": 0,
    }
    return {"cls": _Scheduler, "options": options}


def _visible_gpu(gpus: Sequence[str], worker: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {}


def _address_file(folder: Path, pid: int) -> Path:
    return folder / f"address-{pid}.txt"


def _crash_dump_file(folder: Path, address: str) -> Path:
    return folder / f"crash-{address.rpartition(':')[2]}.txt"
