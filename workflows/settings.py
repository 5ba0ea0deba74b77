"""The settings of a run, validated at the door."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import MAX_FAULTS
from noctile.pipeline.models.load import Backend
from noctile.pipeline.plan import Tiling, Window
from noctile.pipeline.tissue import TissueSpec
from noctile.pipeline.untrusted import SETTINGS_BYTES, parse_toml, read_text
from noctile.workflows.quantities import bytes_of, moment_text, seconds_of

PIXELS_VERSION = 6
"""Raised whenever a change of the code changes a mask; results of another version are recomputed,
not mixed."""

PIXEL_SETTINGS = {"overlap_px", "window", "block_px", "batch_size", "compile", "tissue"}
"""Settings that a mask's pixels, or their shards, depend on."""

_BYTES_PER_PROCESS = 2 * 2**30
"""Memory that a worker on the CPU needs (B): model, torch, a block. (benchmarks/RESULTS.md)"""

_BYTES_PER_GPU_PROCESS = 3 * 2**30
"""Memory that a worker on a GPU needs (B): CUDA's libraries come on top, it was seen to hold 1.6
GB."""

_PROCESSES_PER_GPU = 16
"""At most so many share a GPU: each reads and joins its own blocks on one core. Threads would wait
for the interpreter's lock: 16 of them read fewer tiles than one. (benchmarks/RESULTS.md)"""

WORKER_BYTES = 500 * 10**6
"""What a worker holds before it has seen a pixel (B): Python and libraries, most of them shared,
and a small model. As measured; with less, a budget was accepted in which every slide failed."""

_MEMORY_SHARE = 0.9
"""Of the machine's memory that workers may hold together; the rest is for the client, the system
and its caches."""

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where containers and batch systems say how much memory there really is. (Linux, cgroup v2 and v1)
"""

Duration = Annotated[float, BeforeValidator(seconds_of), Field(gt=0)]
Size = Annotated[int, BeforeValidator(bytes_of), Field(ge=0)]
Moment = Annotated[str, BeforeValidator(moment_text)]

_Settings = TypeVar("_Settings", bound=BaseModel)


def _possible(spec: TissueSpec) -> TissueSpec:
    """A tissue finder's settings, if a slide in small fits into memory at them."""
    if not 2 <= spec.mpp <= 64:
        raise ValueError(f"mpp {spec.mpp} um is not from 2 to 64")
    if not all(0 <= area < math.inf for area in (spec.min_area_mm2, spec.max_hole_mm2)):
        raise ValueError("areas are not below 0, and finite")
    return spec


class RunSettings(BaseModel):
    """How a night is run. Every field can stand in the TOML file of ``--config``.

    Attributes:
        model: name of an installed model, or a model folder.
        mpp: pixel size of slides that do not have one in the manifest (um); overrides what the file
            says.
        overlap_px: overlap of neighbouring tiles (px); None: what the model's card says.
        window: how tiles are joined.
        block_px: side of a block, the unit of work and of resume (label-map px); rounded to whole
            tiles.
        batch_size: tiles looked at together; None: one for each thread on the CPU, what free memory
            holds on a GPU (where the last bits of probabilities depend on it).
        compile: let ``torch.compile`` fuse the network's steps; a minute at the start, on a GPU
            only.
        tissue: how tissue is found.
        engine: ``dask`` runs blocks in processes, ``serial`` is the plain loop that defines the
            meaning.
        workers: worker processes; None: as many as cores and memory allow, at most 16 on each GPU.
        threads: torch threads in each process on the CPU; None: cores / workers.
        device: ``auto`` takes the GPUs where there are any.
        backend: what computes the network; ``auto`` takes OpenVINO on the CPU where it is
            installed, else torch.
        scheduler: address of a running Dask scheduler instead of a local cluster.
        slide_timeout_s: time that a slide's jobs may take together in one run (s, or ``30m``;
            ``off``: any).
        max_memory_bytes: memory that a worker process of the local cluster may hold (B, or ``4G``);
            None: its share of the machine's.
        min_free_disk_bytes: with less free disk nothing new is started (B, or ``20G``).
        until: when the run stops, ``07:00`` (the next time it is) or a date with time; None: when
            all is done.
        retry_failed: try slides again that failed in an earlier run and have not changed since.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "tumor"
    mpp: Annotated[float, Field(gt=0)] | None = None
    overlap_px: Annotated[int, Field(ge=0)] | None = None
    window: Window = "crop"
    block_px: Annotated[int, Field(ge=256, le=16384)] = 4096
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    compile: bool = False
    tissue: Annotated[TissueSpec, AfterValidator(_possible)] = TissueSpec()
    engine: Literal["dask", "serial"] = "dask"
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    backend: Backend | Literal["auto"] = "auto"
    scheduler: str | None = None
    slide_timeout_s: Annotated[Duration | None, BeforeValidator(seconds_of)] = 6 * 3600.0
    max_memory_bytes: Annotated[Size, Field(gt=0)] | None = None
    min_free_disk_bytes: Size = 2 * 2**30
    until: Moment | None = None
    retry_failed: bool = False

    def tiling(self, card: ModelCard) -> Tiling:
        """How slides are cut for a model."""
        overlap_px = card.overlap_px if self.overlap_px is None else self.overlap_px
        return Tiling(
            card.mpp, card.tile_px, overlap_px, self.window, self.block_px, len(card.classes)
        )

    def pixels_key(
        self, card: ModelCard, config: dict[str, Any], device: str, backend: Backend
    ) -> str:
        """Short hash of everything in the call that a mask's pixels depend on (the slide aside).

        Args:
            card: of the model; holds the hash of its weights.
            config: of the model.
            device: where it runs; a GPU's last bits are not a CPU's, so no mask is begun on one and
                ended on the other.
            backend: what computes its network; likewise.
        """
        fields = self.model_dump(mode="json", include=PIXEL_SETTINGS)
        fields |= {
            "card": card.model_dump(
                mode="json", exclude={"description", "training", "metrics", "limits"}
            )
        }
        where = {"device": device.partition(":")[0], "backend": backend}
        fields |= {"config": config, "version": PIXELS_VERSION, **where}
        return short_hash(fields)

    def processes(self, gpus: int) -> int:
        """Worker processes on this machine: what cores and memory allow; as many for each GPU."""
        if self.workers:
            return self.workers
        if gpus:
            room = min(cores(), machine_bytes() // _BYTES_PER_GPU_PROCESS)
            return gpus * max(1, min(room // gpus, _PROCESSES_PER_GPU))
        return max(1, min(cores(), machine_bytes() // _BYTES_PER_PROCESS))

    def worker_bytes(self, processes: int) -> int:
        """Memory that each of them may hold (B)."""
        return self.max_memory_bytes or int(_MEMORY_SHARE * machine_bytes() / processes)

    def torch_threads(self, processes: int) -> int:
        """Torch threads in each of them."""
        return self.threads or max(1, cores() // processes)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_bytes() -> int:
    """Memory that the processes of this machine, or of the container that this one is in, may hold
    together (B).
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text(encoding="ascii").strip() for path in _CGROUP_LIMITS if path.exists()]
    return min([memory, *(int(limit) for limit in limits if limit.isdigit())])


def short_hash(values: Any) -> str:
    """16 hexadecimal digits over plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def load_settings(config: Path | None, **given: Any) -> RunSettings:
    """Settings from a TOML file, with what the call gives (not None) on top.

    Raises:
        UsageError: if the file is not TOML, or a setting is unknown or out of range; the message
            names it.
    """
    return checked(
        RunSettings,
        {**read_toml(config), **{k: value for k, value in given.items() if value is not None}},
    )


def read_toml(config: Path | None) -> dict[str, Any]:
    """The settings that a file holds; none where there is no file.

    Raises:
        UsageError: if it cannot be read or is not TOML.
    """
    if config is None:
        return {}
    try:
        return parse_toml(read_text(config, SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        raise UsageError(f"settings file {config}: {error}") from error


def checked(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Settings out of plain values.

    Raises:
        UsageError: if one is unknown or out of range; the message names it.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        places = ((".".join(map(str, e["loc"])), e) for e in error.errors()[:MAX_FAULTS])
        lines = [
            f"  {place:.80}: {e['msg']:.500} (found {e['input']!r:.80})" for place, e in places
        ]
        known = ", ".join(kind.model_fields)
        raise UsageError(
            "\n".join(["settings cannot be used:", *lines, f"known settings: {known}"])
        ) from error
