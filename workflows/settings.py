"""Settings of a run: plain data, checked when they are read."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from noctile.pipeline.errors import UsageError
from noctile.pipeline.export.formats import check_format
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.device import check_device_name
from noctile.pipeline.models.load import Backend
from noctile.pipeline.plan import Tiling, Window
from noctile.pipeline.tissue import TissueSpec
from noctile.pipeline.untrusted import SETTINGS_BYTES, parse_toml, read_text
from noctile.pipeline.wrong_values import faults_of
from noctile.workflows.quantities import bytes_of, moment_text, seconds_of

PIXELS_VERSION = 6
"""Version of the pixels of masks, raised with every change of the code that changes a mask.

Results of another version are made again, never mixed with new ones."""

PIXEL_SETTINGS = {"overlap_px", "window", "block_px", "batch_size", "compile", "tissue"}
"""Names of the settings that a mask's pixels, or its shards, depend on."""

Duration = Annotated[float, BeforeValidator(seconds_of), Field(gt=0)]
Size = Annotated[int, BeforeValidator(bytes_of), Field(ge=0)]
Moment = Annotated[str, BeforeValidator(moment_text)]
Device = Annotated[str, AfterValidator(check_device_name)]

_Settings = TypeVar("_Settings", bound=BaseModel)


def _possible(spec: TissueSpec) -> TissueSpec:
    """Check the settings of the tissue search: its thumbnail must fit into memory.

    Raises:
        ValueError: if one is out of range.
    """
    if not 2 <= spec.mpp <= 64:
        raise ValueError(f"must have an mpp from 2 to 64 (um); found {spec.mpp}")
    if not all(0 <= area < math.inf for area in (spec.min_area_mm2, spec.max_hole_mm2)):
        raise ValueError("must have areas that are finite and 0 or more")
    return spec


def _listed(value: object) -> object:
    """Words of a text with commas, each once; any other value as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))


class RunSettings(BaseModel):
    """Settings of a run. Every field may be set in the TOML file of ``--config``.

    Attributes:
        model: name of an installed model, or path of a model folder.
        mpp: pixel size of slides without one in the manifest (um); overrides the one in the file.
        overlap_px: overlap of neighbouring tiles (px); None takes it from the model's card.
        window: method by which tiles are joined.
        block_px: side of a block, the unit of work and of resume (label-map px); rounded to whole
            tiles.
        batch_size: number of tiles in a batch; None takes one for each thread on the CPU, and as
            many as free memory holds on a GPU (the last bits of probabilities depend on it there).
        compile: True lets ``torch.compile`` fuse the network's steps; it takes a minute at the
            start, on a GPU only.
        tissue: settings of the tissue search.
        engine: ``dask`` runs blocks in processes, ``serial`` is the plain loop that defines the
            meaning.
        workers: number of worker processes; None takes as many as cores and memory allow, at most
            16 on each GPU.
        threads: number of torch threads in each process on the CPU; None takes cores / workers.
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` takes the GPUs if there are any.
        backend: library that computes the network; ``auto`` takes OpenVINO on the CPU if it is
            installed, else torch.
        scheduler: address of a running Dask scheduler, instead of a local cluster.
        slide_timeout_s: longest time that a slide's jobs may take together in one run (s, or
            ``30m``); ``off`` for no limit.
        max_memory_bytes: memory that a worker process of the local cluster may hold (B, or ``4G``);
            None takes its share of the machine's.
        min_free_disk_bytes: free disk space below which no further job starts (B, or ``20G``).
        until: time at which the run stops, ``07:00`` (the next time it is) or a date with time;
            None for the end of the work.
        retry_failed: True tries slides again that failed in an earlier run and have not changed.
        redo: True makes finished results again where the model or settings differ; False refuses.
        export: names of formats; each slide that is done is exported to them.
        check_content: part of a file that is compared to find that a slide has changed: its size
            and a ``sample`` of its bytes, or the ``full`` file.
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
    device: Device = "auto"
    backend: Literal["auto", Backend] = "auto"
    scheduler: str | None = None
    slide_timeout_s: Annotated[Duration | None, BeforeValidator(seconds_of)] = 6 * 3600.0
    max_memory_bytes: Annotated[Size, Field(gt=0)] | None = None
    min_free_disk_bytes: Size = 2 * 2**30
    until: Moment | None = None
    retry_failed: bool = False
    redo: bool = False
    export: Annotated[
        tuple[Annotated[str, AfterValidator(check_format)], ...], BeforeValidator(_listed)
    ] = ()
    check_content: Literal["sample", "full"] = "sample"

    def tiling(self, card: ModelCard) -> Tiling:
        """Return the tiling of slides for a model."""
        overlap_px = card.overlap_px if self.overlap_px is None else self.overlap_px
        return Tiling(
            card.mpp, card.tile_px, overlap_px, self.window, self.block_px, len(card.classes)
        )

    def pixels_key(
        self, card: ModelCard, config: dict[str, Any], device: str, backend: Backend
    ) -> str:
        """Return a short hash of everything that a mask's pixels depend on beside the slide.

        Args:
            card: card of the model; it holds the hash of the weights.
            config: configuration of the model.
            device: device of the workers. The last bits of a GPU and a CPU differ, so that no mask
                is begun on one and ended on the other.
            backend: library that computes the network; results of two libraries differ in the last
                bits, too.
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


def short_hash(values: Any) -> str:
    """Return a hash of plain values: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class SettingsError(UsageError):
    """Settings that cannot be used.

    Args:
        faults: one line for each setting.

    Attributes:
        faults: the same.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n  ".join(["settings cannot be used:", *faults]))
        self.faults = tuple(faults)


def load_settings(
    config: Path | None, shown: Mapping[str, str] | None = None, **given: Any
) -> RunSettings:
    """Read settings from a TOML file, and override them.

    Args:
        config: path of the file, or None for no file.
        shown: name for the reader, such as ``--slide-timeout``, by the name of a setting.
        **given: settings that override the file's; None leaves a setting as it is.

    Raises:
        UsageError: if the file is not TOML, or a setting is unknown or out of range; the message
            names it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    return checked(RunSettings, {**read_toml(config), **given}, shown)


def read_toml(config: Path | None) -> dict[str, Any]:
    """Read the settings in a TOML file, without checking their values.

    Args:
        config: path of the file, or None for no settings.

    Raises:
        UsageError: if it cannot be read or is not TOML.
    """
    if config is None:
        return {}
    try:
        return parse_toml(read_text(config, SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        raise UsageError(f"settings file {config}: {error}") from error


def checked(
    kind: type[_Settings], values: Mapping[str, Any], shown: Mapping[str, str] | None = None
) -> _Settings:
    """Make settings of plain values.

    Args:
        kind: class of the settings.
        values: value of each setting, by name.
        shown: name for the reader, such as ``--slide-timeout``, by the name of a setting.

    Raises:
        SettingsError: if one is unknown or out of range; the message names it.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        faults = faults_of(kind, error, shown)
        if any(" is unknown" in fault for fault in faults):
            faults.append(f"known settings: {', '.join(kind.model_fields)}")
        raise SettingsError(faults) from error
