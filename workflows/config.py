"""The settings of a run, validated at the door."""

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UsageError
from pipeline.models.card import ModelCard
from pipeline.plan import Tiling, Window
from pipeline.tissue import TissueSpec

PIXELS_VERSION = 2
"""Raised whenever a change of the code changes a mask; results of another version are recomputed, not mixed."""

PIXEL_SETTINGS = {"overlap_px", "window", "block_px", "batch_size", "compile", "tissue", "refine"}
"""Settings that a mask's pixels, or their shards, depend on."""

_BYTES_PER_PROCESS = 2 * 2**30
"""Memory that a worker on the CPU needs (B): model, torch, a block. (benchmarks/RESULTS.md)"""


_Settings = TypeVar("_Settings", bound=BaseModel)


class RunSettings(BaseModel):
    """How a night is run. Every field can stand in the TOML file of ``--config``.

    Attributes:
        model: name of an installed model, or a model folder.
        mpp: pixel size of slides that do not have one in the manifest (um); overrides what the file says.
        overlap_px: overlap of neighbouring tiles (px); None: what the model's card says.
        window: how tiles are joined.
        block_px: side of a block, the unit of work and of resume (label-map px); rounded to whole tiles.
        batch_size: tiles looked at together; None: one for each thread on the CPU, what free memory holds on a GPU
            (where the last bits of probabilities depend on it).
        compile: let ``torch.compile`` fuse the network's steps; a minute at the start, on a GPU only.
        tissue: how tissue is found.
        refine: ``guided`` fits boundaries to the picture with a guided filter; it did not measure better.
        engine: ``dask`` runs blocks in processes, ``serial`` is the plain loop that defines the meaning.
        workers: worker processes; None: one per GPU, or as many as cores and memory allow.
        threads: torch threads in each process on the CPU; None: cores / workers.
        device: ``auto`` takes the GPUs where there are any.
        scheduler: address of a running Dask scheduler instead of a local cluster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "tumor"
    mpp: Annotated[float, Field(gt=0)] | None = None
    overlap_px: Annotated[int, Field(ge=0)] | None = None
    window: Window = "crop"
    block_px: Annotated[int, Field(ge=256, le=16384)] = 4096
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    compile: bool = False
    tissue: TissueSpec = TissueSpec()
    refine: Literal["none", "guided"] = "none"
    engine: Literal["dask", "serial"] = "dask"
    workers: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    scheduler: str | None = None

    def tiling(self, card: ModelCard) -> Tiling:
        """How slides are cut for a model."""
        overlap_px = card.overlap_px if self.overlap_px is None else self.overlap_px
        return Tiling(card.mpp, card.tile_px, overlap_px, self.window, self.block_px, len(card.classes))

    def pixels_key(self, card: ModelCard, config: dict[str, Any], device: str) -> str:
        """Short hash of everything in the call that a mask's pixels depend on (the slide aside).

        Args:
            card: of the model; holds the hash of its weights.
            config: of the model.
            device: where it runs; a GPU's last bits are not a CPU's, so no mask is begun on one and ended on the other.
        """
        fields = self.model_dump(mode="json", include=PIXEL_SETTINGS)
        fields |= {"card": card.model_dump(mode="json", exclude={"description", "training", "metrics", "limits"})}
        fields |= {"config": config, "device": device.partition(":")[0], "version": PIXELS_VERSION}
        return short_hash(fields)

    def processes(self, gpus: int) -> int:
        """Worker processes on this machine: one per GPU, or what cores and memory allow."""
        if self.workers:
            return self.workers
        if gpus:
            return gpus
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(1, min(cores(), memory // _BYTES_PER_PROCESS))

    def torch_threads(self, processes: int) -> int:
        """Torch threads in each of them."""
        return self.threads or max(1, cores() // processes)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def short_hash(values: Any) -> str:
    """16 hexadecimal digits over plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def load_settings(config: Path | None, **given: Any) -> RunSettings:
    """Settings from a TOML file, with what the call gives (not None) on top.

    Raises:
        UsageError: if the file is not TOML, or a setting is unknown or out of range; the message names it.
    """
    return checked(RunSettings, {**read_toml(config), **{k: value for k, value in given.items() if value is not None}})


def read_toml(config: Path | None) -> dict[str, Any]:
    """The settings that a file holds; none where there is no file.

    Raises:
        UsageError: if it cannot be read or is not TOML.
    """
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"settings file {config}: {error}") from error


def checked(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Settings out of plain values.

    Raises:
        UsageError: if one is unknown or out of range; the message names it.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})" for e in error.errors()]
        known = ", ".join(kind.model_fields)
        raise UsageError("\n".join(["settings cannot be used:", *lines, f"known settings: {known}"])) from error
