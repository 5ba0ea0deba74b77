"""What a run can begin before its own modules are imported: the process that its workers are forked from."""

from pathlib import Path

from pipeline.models.card import ModelCard
from pipeline.models.load import (
    Backend,
    find_model,
    gpus_of,
    modules_of,
    read_card,
    resolve_backend,
    resolve_device,
)
from workflows.config import RunSettings
from workflows.engines.process import start_forkserver

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""For workers on the CPU: arrays of some megabytes come and go with every tile. By its own rules glibc maps each anew,
or keeps a heap for every thread; these save a sixth of the time and a tenth of the memory. (benchmarks/RESULTS.md)"""


def warm_up(settings: RunSettings) -> None:
    """Let workers import what they need while the run's own process does; returns at once.

    Raises:
        UsageError: if there is no such model or device.
    """
    if settings.engine == "serial" or settings.scheduler:
        return
    device = resolve_device(settings.device)
    gpus = len(gpus_of(device))
    model = find_model(settings.model)
    backend = resolve_backend(settings.backend, device)
    threads = settings.torch_threads(settings.processes(gpus))
    start_forkserver(worker_modules(model, read_card(model), backend), worker_env(threads, gpus=bool(gpus)))


def worker_modules(model: Path, card: ModelCard, backend: Backend) -> tuple[str, ...]:
    """What workers import."""
    return ("workflows.jobs", *modules_of(model, card, backend))


def worker_env(threads: int, *, gpus: bool) -> dict[str, str]:
    """Environment of workers that compute with so many threads."""
    return {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"} | ({} if gpus else MALLOC)
