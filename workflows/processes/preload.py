"""Modules and environment of the processes that workers are forked from."""

import sys
from pathlib import Path

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import CONFIG, weights_path
from noctile.pipeline.models.load import Backend, modules_to_import
from noctile.workflows.jobs.entry import JOB_MODULES
from noctile.workflows.settings import RunSettings

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""Memory settings of glibc for workers on the CPU, whose arrays of some megabytes come and go with
every tile. By default glibc maps each array anew, or keeps a heap for every thread. These settings
save a sixth of the time and a tenth of the memory. (benchmarks/history/memory.md)"""


def is_served(settings: RunSettings, device: str, model: Path) -> bool:
    """Whether workers ask an inference server for each GPU (`noctile.workflows.inference.server`);
    else each computes itself.

    Args:
        settings: of the run.
        device: of `resolve_device`.
        model: its folder.

    Raises:
        ModelError: if that is incomplete.
    """
    local = settings.engine == "dask" and not settings.scheduler and sys.platform == "linux"
    decided = settings.window == "crop"  # probabilities had better stay on the GPU
    return local and decided and device != "cpu" and weights_path(model).name != CONFIG


def worker_modules(
    model: Path, card: ModelCard, backend: Backend, *, served: bool
) -> tuple[str, ...]:
    """Modules that workers import."""
    return (*JOB_MODULES, *(() if served else modules_to_import(model, card, backend)))


def worker_env(threads: int, *, gpus: bool) -> dict[str, str]:
    """Environment variables of workers.

    Args:
        threads: Threads that each worker computes with.
        gpus: Whether the workers compute on GPUs.
    """
    return {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"} | ({} if gpus else MALLOC)
