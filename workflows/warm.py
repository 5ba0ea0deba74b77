"""What a run begins with, before it imports anything large: the process that its workers are forked from."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.models.device import gpus_of, may_be_gpu, resolve_device
from workflows.engines.process import start_forkserver

if TYPE_CHECKING:
    from pipeline.models.card import ModelCard
    from pipeline.models.load import Backend
    from workflows.config import RunSettings

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""For workers on the CPU: arrays of some megabytes come and go with every tile. By its own rules glibc maps each anew,
or keeps a heap for every thread; these save a sixth of the time and a tenth of the memory. (benchmarks/RESULTS.md)"""

_ASKED = "NOCTILE_ASKED"
"""By this variable the call of a run reaches the process that workers are forked from."""


def warm_up(config: Path | None, options: Mapping[str, Any]) -> None:
    """Let workers import what they need while the run's own process does; returns at once.

    Where it is sure that no GPU is meant, that process begins before anybody has read the settings: it does so itself
    (`import_asked`). A fault in them is left to whoever reads them here.

    Args:
        config: file with settings, if there is one.
        options: settings of the call, as for `workflows.config.load_settings`.

    Raises:
        UsageError: if there is no such setting, model or device, as far as it was looked.
    """
    if options.get("engine") == "serial" or options.get("scheduler"):
        return
    if may_be_gpu(options.get("device") or "auto"):
        from workflows.config import load_settings  # noqa: PLC0415 - takes as long as to begin the process

        modules, env = _needs(load_settings(config, **options))
        if modules:
            start_forkserver(modules, env)
    else:
        asked = json.dumps([config and str(config), {**options}])
        start_forkserver(("workflows.asked",), {**worker_env(1, gpus=False), _ASKED: asked})


def import_asked() -> None:
    """Import what workers of the run will need that was asked for; in the process that they are forked from."""
    from workflows.config import load_settings  # noqa: PLC0415 - `warm_up` is there before it

    config, options = json.loads(os.environ.pop(_ASKED))
    with suppress(Exception):  # it will go wrong again in the run's own process, which says so
        modules, env = _needs(load_settings(config and Path(config), **options))
        os.environ.update(env)
        for module in modules:
            import_module(module)


def _needs(settings: "RunSettings") -> tuple[tuple[str, ...], dict[str, str]]:
    """Modules and environment of the workers that a run will have; none, if it has none of its own.

    Raises:
        UsageError: if there is no such model or device.
    """
    from pipeline.models.load import find_model, read_card, resolve_backend  # noqa: PLC0415 - `warm_up` is there before

    if settings.engine == "serial" or settings.scheduler:
        return (), {}
    device = resolve_device(settings.device)
    gpus = len(gpus_of(device))
    model = find_model(settings.model)
    backend = resolve_backend(settings.backend, device)
    threads, served = settings.torch_threads(settings.processes(gpus)), is_served(settings, device, model)
    modules = worker_modules(model, read_card(model), backend, served=served)
    return modules, worker_env(threads, gpus=bool(gpus) and not served)


def is_served(settings: "RunSettings", device: str, model: Path) -> bool:
    """Whether workers ask an inference server for each GPU (`workflows.inference`); else each computes itself.

    Args:
        settings: of the run.
        device: of `resolve_device`.
        model: its folder.

    Raises:
        ModelError: if that is incomplete.
    """
    from pipeline.models.load import CONFIG, weights_path  # noqa: PLC0415 - `warm_up` is there before it

    local = settings.engine == "dask" and not settings.scheduler and sys.platform == "linux"
    decided = settings.window == "crop" and settings.refine == "none"  # probabilities had better stay on the GPU
    return local and decided and device != "cpu" and weights_path(model).name != CONFIG


def worker_modules(model: Path, card: "ModelCard", backend: "Backend", *, served: bool) -> tuple[str, ...]:
    """What workers import."""
    from pipeline.models.load import modules_of  # noqa: PLC0415 - `warm_up` is there before it

    return ("workflows.jobs", *(() if served else modules_of(model, card, backend)))


def worker_env(threads: int, *, gpus: bool) -> dict[str, str]:
    """Environment of workers that compute with so many threads, on GPUs or not."""
    return {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"} | ({} if gpus else MALLOC)
