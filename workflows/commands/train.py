"""Train a model: regions -> split -> crops -> weights -> a model folder for `noctile run`."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.arrays import Int64
from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.device import gpu_count, resolve_device
from noctile.pipeline.models.network import multiply_odds, save_model
from noctile.pipeline.normalize import StainNormalizer, stain_amounts
from noctile.pipeline.report.plots import plot_curves
from noctile.pipeline.training.checkpoint import CHECKPOINT
from noctile.pipeline.training.crops import RegionCache, region_shares
from noctile.pipeline.training.fit import fit
from noctile.pipeline.training.job import FitJob, FitResult, HistoryRow, Say
from noctile.pipeline.training.network import MEAN, STD
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.region import LabelledPixels, Region, load_region
from noctile.pipeline.truth.scheme import ClassScheme, load_scheme
from noctile.pipeline.truth.split import (
    SIDES,
    Side,
    Split,
    check_classes,
    class_pixels,
    class_weights,
    make_split,
    write_split,
)
from noctile.workflows.resources import cores, shared_memory_bytes
from noctile.workflows.results.files import write_atomic
from noctile.workflows.settings import checked, read_toml, short_hash

CACHE = "cache"
"""Folder of the decoded regions in the model's folder while it trains."""

_NOT_IN_KEY = {
    *("device", "processes", "workers", "data", "half", "odds"),
    *("name", "description", "licence", "limits"),
}
"""Settings that do not change a step of the training; the key has the regions instead of data."""

_NOT_IN_CARD_SETTINGS = _NOT_IN_KEY | {
    *("split", "classes", "mpp", "tile_px", "overlap_px", "stain", "encoder_weights")
}
"""Settings that the card has elsewhere."""

_CACHED_SIDES: tuple[Side, ...] = ("train", "val")

_MAX_WORKERS = 8

_QUEUED_BATCHES = 3
"""Batches of a worker that lie in shared memory at once: two that wait and one in use. (torch.org,
``DataLoader``, ``prefetch_factor``)"""

_BYTES_PER_PIXEL = 4
"""Size of a pixel of a crop with its class (B)."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of a training.

    Attributes:
        folder: folder of the model.
        best_epoch: number of the epoch whose weights the model has, from 1.
        history: one row for each epoch.
    """

    folder: Path
    best_epoch: int
    history: Sequence[HistoryRow]


def load_train_settings(
    config: Path | None,
    data: Sequence[Path],
    image_mpp: float | None = None,
    exported: Path | None = None,
    **given: Any,
) -> TrainSettings:
    """Load settings from a TOML file; given settings that are not None replace those of the file.

    Args:
        config: the file. Paths in its ``[[data]]`` are looked up in the folders of ``data``, in
            their order; its other paths are relative to the file.
        data: folders; each is a data source itself if the file has no ``[[data]]``.
        image_mpp: pixel size (um) of the images of all sources for which the file has none.
        exported: folder of the corrected exports, for all sources for which the file has none.
        given: settings that replace those of the file.

    Raises:
        UsageError: if the file is not TOML, a setting is unknown or out of range, or a data source
            is in none of the folders.
    """
    listed = checked(TrainSettings, read_toml(config)).resolved(
        config.parent if config else Path.cwd()
    )
    overrides = {name: value for name, value in given.items() if value is not None}
    settings = checked(TrainSettings, {**listed.model_dump(), **overrides})
    sources = tuple(_resolve_source(source, data) for source in settings.data) or tuple(
        DataSource(path=path) for path in data
    )
    sources = tuple(
        source.model_copy(
            update={"mpp": source.mpp or image_mpp, "exported": source.exported or exported}
        )
        for source in sources
    )
    labels = [source.label for source in sources]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UsageError(
            f"two data sources are called {', '.join(sorted(twice))}; give each a name of its own"
        )
    return settings.model_copy(update={"data": sources})


def train(settings: TrainSettings, out: Path, say: Say, *, resume: bool = False) -> TrainResult:
    """Train a model into a folder.

    A checkpoint after each epoch lets ``resume`` go on with a training that was stopped.

    Args:
        settings: settings of the training.
        out: folder of the model. During the training it also holds a checkpoint and decoded
            regions.
        say: takes each line of progress.
        resume: true to go on from the checkpoint.

    Raises:
        UsageError: if data, split, classes, weights or the folder do not allow the training; the
            message says why.
    """
    device = resolve_device(settings.device)
    data = _find_data(settings)
    _check_folder(out, resume)
    counts = class_pixels(data.regions, data.split, data.scheme, settings.mpp)
    _check_odds(settings, data.scheme)
    weights = _weights(counts, data.scheme, settings)
    for line in _split_lines(data, counts, weights):
        say(line)
    if not settings.empty_classes:
        check_classes(counts[0], data.scheme)
    job = _job(settings, data, weights, out, device, say)
    out.mkdir(parents=True, exist_ok=True)
    write_split(out / "split.csv", data.regions, data.split)
    (out / "scheme.toml").write_text(data.scheme.to_toml(), encoding="utf-8")
    say(
        f"{len(job.train.ids)} regions train, {job.steps} steps an epoch on {job.device} x "
        f"{job.processes}"
    )
    fitted = fit(job, say)
    multiply_odds(fitted.network, [settings.odds.get(name, 1.0) for name in job.names])
    write_atomic(out / "curves.png", lambda path: path.write_bytes(plot_curves(fitted.history)))
    card = _card(settings, data, job, fitted)
    save_model(out, fitted.network, card, half=settings.half)
    (out / CHECKPOINT).unlink()
    shutil.rmtree(out / CACHE)
    return TrainResult(out, fitted.best_epoch, fitted.history)


@dataclass(frozen=True, slots=True)
class _TrainingData:
    """Regions of a training.

    Attributes:
        scheme: class scheme of the regions.
        regions: regions of all data sources.
        split: side of each region.
    """

    scheme: ClassScheme
    regions: Sequence[Region]
    split: Split

    def sides(self) -> dict[Side, list[Region]]:
        """Regions of each side."""
        return {side: self.split.select(self.regions, side) for side in SIDES}


def _find_data(settings: TrainSettings) -> _TrainingData:
    """Find the regions of a training and split them."""
    scheme = load_scheme(settings.classes)
    regions = [region for source in settings.data for region in find_regions(source)]
    extras = {source.label for source in settings.data if source.extra}
    return _TrainingData(scheme, regions, make_split(regions, settings.split, extras))


def _check_odds(settings: TrainSettings, scheme: ClassScheme) -> None:
    """Check that odds are given for classes of the scheme only."""
    unknown = settings.odds.keys() - {info.name for info in scheme.classes}
    if unknown:
        raise UsageError(
            f"odds are given of {', '.join(sorted(unknown))}, which is no class of scheme "
            f"{scheme.name}. Its classes are {', '.join(info.name for info in scheme.classes)}"
        )


def _resolve_source(source: DataSource, folders: Sequence[Path]) -> DataSource:
    """Set the path of a source in the settings file to the first folder that has it."""
    paths = [folder / source.path for folder in folders] or [source.path]
    for path in paths:
        if path.is_dir():
            return source.model_copy(update={"path": path, "name": source.label})
    raise UsageError(f"data source {source.path} is in none of {', '.join(map(str, paths))}")


def _check_folder(out: Path, resume: bool) -> None:
    """Check that a training may write into a folder."""
    if (out / "card.json").is_file():
        raise UsageError(
            f"{out} holds a finished model. Choose another folder, or delete this one to train "
            "again"
        )
    if (out / CHECKPOINT).is_file() and not resume:
        raise UsageError(
            f"a training was stopped in {out}. Use --resume to go on, or choose another folder"
        )


def _weights(counts: Int64, scheme: ClassScheme, settings: TrainSettings) -> tuple[float, ...]:
    """Weight of each class in the loss."""
    if settings.class_weights == "none":
        return (1.0,) * len(scheme.classes)
    return tuple(map(float, class_weights(counts[SIDES.index("train")])))


def _split_lines(data: _TrainingData, counts: Int64, weights: Sequence[float]) -> list[str]:
    """The split and the classes as lines of text."""
    lines = []
    for side, chosen in data.sides().items():
        patients, institutes = (
            {getattr(r, name) for r in chosen} - {""} for name in ("patient", "institute")
        )
        named = f", {len(institutes)} institutes" if institutes else ""
        lines.append(f"{side}: {len(chosen)} regions of {len(patients)} patients{named}")
    total = counts.sum(axis=1).clip(min=1)
    lines.append(f"{'class':28}" + "".join(f"{side:>9}" for side in SIDES) + f"{'weight':>9}")
    for k, info in enumerate(data.scheme.classes):
        shares = "".join(f"{100 * n / t:8.2f}%" for n, t in zip(counts[:, k], total, strict=True))
        lines.append(f"{info.code:3} {info.name:24}{shares}{weights[k]:9.2f}")
    return lines


def _job(
    settings: TrainSettings,
    data: _TrainingData,
    weights: tuple[float, ...],
    out: Path,
    device: str,
    say: Say,
) -> FitJob:
    """Make the training job, and decode its regions into the cache."""
    processes = settings.processes or (gpu_count() if device == "cuda" else 1)
    if settings.batch_size % processes:
        raise UsageError(
            f"batch_size ({settings.batch_size}) must be a multiple of the {processes} processes"
        )
    key = _key(settings, data, processes)
    sides = data.sides()
    load = partial(_load_normalized, scheme=data.scheme, settings=settings)
    train, val = (
        RegionCache.build(out / CACHE / side, key, sides[side], partial(load, side=side))
        for side in _CACHED_SIDES
    )
    if not train.ids:
        raise UsageError("no region is on the training side. Add regions, or change the split")
    shares = {source.label: source.share for source in settings.data}
    return FitJob(
        settings=settings,
        names=tuple(info.name for info in data.scheme.classes),
        counted=tuple(info.role != "ignore" for info in data.scheme.classes),
        weights=weights,
        train=train,
        shares=tuple(region_shares(sides["train"], train, shares)),
        val=val,
        folder=out,
        key=key,
        device=device,
        processes=processes,
        workers=_workers(settings, device, processes, say),
    )


def _key(settings: TrainSettings, data: _TrainingData, processes: int) -> str:
    """Hash of all values on which the steps of a training depend."""
    return short_hash(
        {
            "settings": settings.model_dump(mode="json", exclude=_NOT_IN_KEY | {"split"}),
            "scheme": data.scheme.to_toml(),
            "sides": {
                side: sorted(region.region_id for region in chosen)
                for side, chosen in data.sides().items()
            },
            "data": [source.without_paths() for source in settings.data],
            "processes": processes,
        }
    )


def _load_normalized(
    region: Region, scheme: ClassScheme, settings: TrainSettings, side: Side
) -> LabelledPixels:
    """Load a region with normalized stain, as the model gets it.

    Points have their weight in training only; a validation counts their pixels like others.
    """
    pixels = load_region(region, scheme, settings.mpp)
    if side != "train":
        pixels = replace(pixels, points=None)
    if settings.stain is None or (found := stain_amounts([pixels.rgb])) is None:
        return pixels
    return replace(pixels, rgb=StainNormalizer(found, settings.stain)(pixels.rgb))


def _workers(settings: TrainSettings, device: str, processes: int, say: Say) -> int:
    """Number of processes that cut crops for each training process.

    A GPU must not wait for crops. On a CPU the training itself uses all cores. Crops wait in shared
    memory. A process that finds no room there is killed by the system, so fewer are started.
    """
    if (wanted := settings.workers) is None:
        on_gpu = device.startswith("cuda")
        wanted = min(_MAX_WORKERS, max(1, cores() // processes)) if on_gpu else 0
    batches_bytes = _QUEUED_BATCHES * settings.batch_size * settings.crop_px**2 * _BYTES_PER_PIXEL
    workers = int(min(wanted, shared_memory_bytes() // batches_bytes))
    if workers < wanted:
        say(
            f"{workers} instead of {wanted} workers cut crops for each process: each needs "
            f"{batches_bytes / 1e6:.0f} MB of shared memory (/dev/shm), and little is free. Give "
            "the container more, e.g. docker run --shm-size=2g"
        )
    return workers


def _card(
    settings: TrainSettings, data: _TrainingData, job: FitJob, fitted: FitResult
) -> dict[str, Any]:
    """Fields of the model's card. No field has a path."""
    described = f"{settings.architecture} on {settings.encoder}, classes {data.scheme.name}"
    return {
        "name": settings.name or job.folder.resolve().name,
        "description": settings.description or described,
        "classes": [info.model_dump() for info in data.scheme.classes],
        "mpp": settings.mpp,
        "tile_px": settings.tile_px,
        "overlap_px": settings.overlap_px,
        "mean": MEAN,
        "std": STD,
        "stain": settings.stain,
        "licence": settings.licence,
        "limits": settings.limits,
        "training": _training_fields(settings, data, job, fitted),
        "metrics": {"validation": _validation_dice(fitted)} if job.val.ids else {},
    }


def _training_fields(
    settings: TrainSettings, data: _TrainingData, job: FitJob, fitted: FitResult
) -> dict[str, Any]:
    """Fields of the card about the training: data, start, best epoch, changed settings."""
    best = fitted.history[fitted.best_epoch - 1]
    sides = data.sides()
    return {
        "scheme": data.scheme.name,
        "data": {
            source.label: {k: v for k, v in source.without_paths().items() if k != "name"}
            for source in settings.data
        },
        "regions": {side: len(chosen) for side, chosen in sides.items()},
        "patients": {side: len({r.patient for r in chosen}) for side, chosen in sides.items()},
        "encoder_start": fitted.start,
        "class_weights": dict(zip(job.names, (round(w, 4) for w in job.weights), strict=True)),
        "odds": settings.odds,
        "best_epoch": fitted.best_epoch,
        "steps": int(best["step"]),
        "seconds": best["seconds"],
        "settings": settings.model_dump(
            mode="json", exclude=_NOT_IN_CARD_SETTINGS, exclude_defaults=True
        ),
    }


def _validation_dice(fitted: FitResult) -> dict[str, float]:
    """Validation Dice of the best epoch: of each class by its name, and of "mean"."""
    best = fitted.history[fitted.best_epoch - 1]
    return {
        name.removeprefix("val_dice_"): round(value, 4)
        for name, value in best.items()
        if name.startswith("val_dice_") and math.isfinite(value)
    }
