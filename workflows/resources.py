"""Resources of a run: device, worker processes, threads and memory, resolved once at its start."""

import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.device import gpus_of, resolve_device
from noctile.pipeline.models.load import Backend, resolve_backend
from noctile.pipeline.plan import Tiling
from noctile.workflows.cgroups import cgroup_limits
from noctile.workflows.settings import RunSettings

_BYTES_PER_PROCESS = 2 * 2**30
"""Memory that a worker on the CPU needs (B): model, torch, a block.
(benchmarks/history/memory.md)"""

_BYTES_PER_GPU_PROCESS = 3 * 2**30
"""Memory that a worker on a GPU needs (B): with CUDA's libraries it was seen to hold 1.6 GB."""

_PROCESSES_PER_GPU = 16
"""Largest number of workers that share a GPU. Each reads and joins its own blocks on one core.
Threads would wait for the interpreter's lock: 16 threads read fewer tiles than one."""

_WORKER_BASE_BYTES = 500 * 10**6
"""Memory that a worker holds before it reads a pixel (B): Python, libraries, a small model. As
measured; with a smaller value a budget was accepted in which every slide failed."""

_MEMORY_SHARE = 0.9
"""Share of the machine's memory that all workers may hold together; the rest is for the process of
the run, the system and its caches."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its free size is read
"""File system of shared memory that has names (Linux); a container often has 64 MB. A run needs
some hundred bytes of it, because its buffers have no name. A training on GPUs needs more."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources that a run uses.

    Attributes:
        device: device of each worker: ``cpu``, ``cuda`` or ``cuda:N``. Workers of the local cluster
            see one GPU each, as ``cuda``.
        gpus: names of the GPUs of this machine that the run uses, as in ``CUDA_VISIBLE_DEVICES``.
        backend: library that computes the network.
        served: True if the run starts an inference server for each GPU.
        workers: number of jobs at once on this machine.
        threads: number of torch threads in each worker.
        worker_bytes: memory that each worker may hold (B).
        processes_per_gpu: number of processes that share a GPU.
        batch_size: number of tiles in a batch; None if each predictor chooses it.
    """

    device: str
    gpus: tuple[str, ...]
    backend: Backend
    served: bool
    workers: int
    threads: int
    worker_bytes: int
    processes_per_gpu: int
    batch_size: int | None


def resolve_resources(settings: RunSettings, tiling: Tiling, *, has_network: bool) -> Resources:
    """Choose the resources of a run on this machine, and check that a block fits into memory.

    Args:
        settings: settings of the run.
        tiling: tiling of slides for the model.
        has_network: False if the model computes without a neural network.

    Raises:
        UsageError: if the device or the backend is not available, or if a block does not fit into
            the memory of a worker.
    """
    needed = tiling.peak_bytes(settings.batch_size or 1) + _WORKER_BASE_BYTES
    device = resolve_device(settings.device)
    gpus = gpus_of(device)
    local = settings.engine == "dask" and not settings.scheduler
    workers = 1 if settings.engine == "serial" else settings.workers or _workers(len(gpus))
    worker_bytes = settings.max_memory_bytes or int(_MEMORY_SHARE * machine_bytes() / workers)
    if needed > worker_bytes:
        raise UsageError(
            f"a worker may hold {worker_bytes / 1e9:.2f} GB (--max-memory, or its share of the "
            f"machine), but model and one block of {settings.block_px} px need up to "
            f"{needed / 1e9:.2f} GB; allow more, take fewer --workers or a smaller block_px"
        )
    decided = settings.window == "crop"  # probabilities had better stay on the GPU
    return Resources(
        device="cuda" if gpus and local else device,
        gpus=gpus,
        backend=resolve_backend(settings.backend, device),
        served=bool(gpus) and local and has_network and decided and sys.platform == "linux",
        workers=workers,
        threads=settings.threads or max(1, cores() // workers),
        worker_bytes=worker_bytes,
        processes_per_gpu=-(-workers // len(gpus)) if gpus and not settings.scheduler else 1,
        batch_size=settings.batch_size,
    )


def _workers(gpus: int) -> int:
    """Number of workers for which cores and memory suffice; the same number for each GPU."""
    if gpus:
        most = min(cores(), machine_bytes() // _BYTES_PER_GPU_PROCESS)
        return gpus * max(1, min(most // gpus, _PROCESSES_PER_GPU))
    return max(1, min(cores(), machine_bytes() // _BYTES_PER_PROCESS))


def cores() -> int:
    """Number of cores that this process may use.

    Its affinity limits them, and the CPU time of its container or batch job, rounded up.
    """
    affine = hasattr(os, "sched_getaffinity")
    usable = len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1
    return max(1, math.ceil(min(usable, cgroup_limits().cpus)))


def machine_bytes() -> int:
    """Memory that the processes of this machine may hold together (B).

    In a container or a batch job, the memory that the processes in it may hold.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(memory, cgroup_limits().memory_bytes))


def shared_memory_bytes() -> float:
    """Shared memory that is free (B); ``inf`` on systems that do not limit it by a file system."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else math.inf
