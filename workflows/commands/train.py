"""Train a model: regions -> split -> crops -> weights -> a model folder that `noctile run` takes."""

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
    Split,
    check_classes,
    class_pixels,
    class_weights,
    make_split,
    write_split,
)
from noctile.workflows.resources import cores
from noctile.workflows.results.files import write_atomic
from noctile.workflows.settings import checked, read_toml, short_hash

CACHE = "cache"
"""In the model's folder while it trains: the regions at the model's pixel size."""

_PLACE = {
    "device",
    "processes",
    "workers",
    "data",
    "name",
    "description",
    "licence",
    "limits",
    "half",
    "odds",
}
"""Settings that do not change a step of the training; data count by their pixels' key."""

_MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training made.

    Attributes:
        folder: of the model.
        best_epoch: whose weights were kept, from 1.
        history: a row an epoch.
    """

    folder: Path
    best_epoch: int
    history: Sequence[HistoryRow]


def load_train_settings(
    config: Path | None, data: Sequence[Path], image_mpp: float | None = None, **given: Any
) -> TrainSettings:
    """Settings from a TOML file, with what the call gives (not None) on top.

    Args:
        config: the file. Paths in its ``[[data]]`` are looked up in the folders of ``data``, in
            their order; its other paths are relative to the file.
        data: folders; without ``[[data]]`` in the file each is a data source itself.
        image_mpp: pixel size (um) of the images of those sources for which the file says none.
        given: of the command.

    Raises:
        UsageError: if the file is not TOML, a setting is unknown or out of range, or a data source
            is nowhere.
    """
    listed = checked(TrainSettings, read_toml(config)).resolved(
        config.parent if config else Path.cwd()
    )
    asked = {name: value for name, value in given.items() if value is not None}
    settings = checked(TrainSettings, {**listed.model_dump(), **asked})
    sources = tuple(_placed(source, data) for source in settings.data) or tuple(
        DataSource(path=path) for path in data
    )
    sources = tuple(
        source if source.mpp else source.model_copy(update={"mpp": image_mpp}) for source in sources
    )
    labels = [source.label for source in sources]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UsageError(
            f"two data sources are called {', '.join(sorted(twice))}; give each a name of its own"
        )
    return settings.model_copy(update={"data": sources})


def train(settings: TrainSettings, out: Path, say: Say, *, resume: bool = False) -> TrainResult:
    """Train a model into a folder; a checkpoint after each epoch lets ``resume`` go on where it was
    stopped.

    Args:
        settings: of the training.
        out: the model's folder. While training goes on it holds split.csv, scheme.toml, history.csv
            and a checkpoint.
        say: takes each line of progress.
        resume: go on from the checkpoint.

    Raises:
        UsageError: if data, split, classes, weights or the folder do not allow it; the message says
            why.
    """
    scheme = load_scheme(settings.classes)
    device = resolve_device(settings.device)
    regions = [region for source in settings.data for region in find_regions(source)]
    split = make_split(
        regions, settings.split, {source.label for source in settings.data if source.extra}
    )
    _check_folder(out, resume)
    counts = class_pixels(regions, split, scheme, settings.mpp)
    if strange := settings.odds.keys() - {info.name for info in scheme.classes}:
        raise UsageError(
            f"odds are given of {', '.join(sorted(strange))}, which is no class of scheme "
            f"{scheme.name}"
        )
    weights = _weights(counts, scheme, settings)
    for line in _balance(regions, split, scheme, counts, weights):
        say(line)
    if not settings.empty_classes:
        check_classes(counts[0], scheme)
    job = _job(settings, scheme, regions, split, weights, out, device)
    out.mkdir(parents=True, exist_ok=True)
    write_split(out / "split.csv", regions, split)
    (out / "scheme.toml").write_text(scheme.to_toml(), encoding="utf-8")
    say(
        f"{len(job.train.ids)} regions train, {job.steps} steps an epoch on {job.device} x "
        f"{job.processes}"
    )
    fitted = fit(job, say)
    multiply_odds(fitted.network, [settings.odds.get(name, 1.0) for name in job.names])
    write_atomic(out / "curves.png", lambda path: path.write_bytes(plot_curves(fitted.history)))
    save_model(
        out,
        fitted.network,
        _card(settings, scheme, job, fitted, regions, split),
        half=settings.half,
    )
    (out / CHECKPOINT).unlink()
    shutil.rmtree(out / CACHE)
    return TrainResult(out, fitted.best_epoch, fitted.history)


def _placed(source: DataSource, folders: Sequence[Path]) -> DataSource:
    """A source of the settings file, at its place in the first folder that has it."""
    places = [folder / source.path for folder in folders] or [source.path]
    for place in places:
        if place.is_dir():
            return source.model_copy(update={"path": place, "name": source.label})
    raise UsageError(f"data source {source.path} is in none of {', '.join(map(str, places))}")


def _check_folder(out: Path, resume: bool) -> None:
    if (out / "card.json").is_file():
        raise UsageError(
            f"{out} holds a finished model; choose another folder, or delete it to train anew"
        )
    if (out / CHECKPOINT).is_file() and not resume:
        raise UsageError(
            f"a training was stopped in {out}: --resume goes on with it; or choose another folder"
        )


def _weights(counts: Int64, scheme: ClassScheme, settings: TrainSettings) -> tuple[float, ...]:
    if settings.class_weights == "none":
        return (1.0,) * len(scheme.classes)
    return tuple(map(float, class_weights(counts[SIDES.index("train")])))


def _balance(
    regions: Sequence[Region],
    split: Split,
    scheme: ClassScheme,
    counts: Int64,
    weights: Sequence[float],
) -> list[str]:
    """The split and the classes as lines of text."""
    lines = []
    for side in SIDES:
        chosen = split.select(regions, side)
        patients, institutes = (
            {getattr(r, name) for r in chosen} - {""} for name in ("patient", "institute")
        )
        named = f", {len(institutes)} institutes" if institutes else ""
        lines.append(f"{side}: {len(chosen)} regions of {len(patients)} patients{named}")
    total = counts.sum(axis=1).clip(min=1)
    lines.append(f"{'class':28}" + "".join(f"{side:>9}" for side in SIDES) + f"{'weight':>9}")
    for k, info in enumerate(scheme.classes):
        shares = "".join(f"{100 * n / t:8.2f}%" for n, t in zip(counts[:, k], total, strict=True))
        lines.append(f"{info.code:3} {info.name:24}{shares}{weights[k]:9.2f}")
    return lines


def _job(
    settings: TrainSettings,
    scheme: ClassScheme,
    regions: Sequence[Region],
    split: Split,
    weights: tuple[float, ...],
    out: Path,
    device: str,
) -> FitJob:
    """The training as plain values, its regions decoded into the cache."""
    processes = settings.processes or (gpu_count() if device == "cuda" else 1)
    if settings.batch_size % processes:
        raise UsageError(
            f"batch_size ({settings.batch_size}) must be a multiple of the {processes} processes"
        )
    sides = {side: split.select(regions, side) for side in SIDES}
    about = {
        "settings": settings.model_dump(mode="json", exclude=_PLACE | {"split"}),
        "scheme": scheme.to_toml(),
        "sides": {
            side: sorted(region.region_id for region in chosen) for side, chosen in sides.items()
        },
        "data": [source.model_dump(mode="json", exclude={"path"}) for source in settings.data],
        "processes": processes,
    }
    key = short_hash(about)
    load = partial(_as_seen, scheme=scheme, settings=settings)
    train, val = (
        RegionCache.build(out / CACHE / side, key, sides[side], load) for side in ("train", "val")
    )
    if not train.ids:
        raise UsageError("no region is on the training side")
    return FitJob(
        settings=settings,
        names=tuple(info.name for info in scheme.classes),
        counted=tuple(info.role != "ignore" for info in scheme.classes),
        weights=weights,
        train=train,
        shares=tuple(
            region_shares(
                sides["train"], train, {source.label: source.share for source in settings.data}
            )
        ),
        val=val,
        folder=out,
        key=key,
        device=device,
        processes=processes,
        workers=_workers(device, processes) if settings.workers is None else settings.workers,
    )


def _as_seen(region: Region, scheme: ClassScheme, settings: TrainSettings) -> LabelledPixels:
    """A region as the model will see it."""
    pixels = load_region(region, scheme, settings.mpp)
    if settings.stain is None or (found := stain_amounts([pixels.rgb])) is None:
        return pixels
    return replace(pixels, rgb=StainNormalizer(found, settings.stain)(pixels.rgb))


def _workers(device: str, processes: int) -> int:
    """Processes that cut crops beside each one that trains: a GPU must not wait, a CPU has no core
    to spare.
    """
    return min(_MOST_WORKERS, max(1, cores() // processes)) if device.startswith("cuda") else 0


def _card(
    settings: TrainSettings,
    scheme: ClassScheme,
    job: FitJob,
    fitted: FitResult,
    regions: Sequence[Region],
    split: Split,
) -> dict[str, Any]:
    """The fields of the model's card. It names no path."""
    best = fitted.history[fitted.best_epoch - 1]
    kept = _PLACE | {"split", "classes", "mpp", "tile_px", "overlap_px", "stain", "encoder_weights"}
    sides = {side: split.select(regions, side) for side in SIDES}
    described = f"{settings.architecture} on {settings.encoder}, classes {scheme.name}"
    return {
        "name": settings.name or job.folder.resolve().name,
        "description": settings.description or described,
        "classes": [info.model_dump() for info in scheme.classes],
        "mpp": settings.mpp,
        "tile_px": settings.tile_px,
        "overlap_px": settings.overlap_px,
        "mean": MEAN,
        "std": STD,
        "stain": settings.stain,
        "licence": settings.licence,
        "limits": settings.limits,
        "training": {
            "scheme": scheme.name,
            "data": {
                source.label: source.model_dump(exclude={"path", "name"})
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
            "settings": settings.model_dump(mode="json", exclude=kept, exclude_defaults=True),
        },
        "metrics": {
            "validation": {
                name.removeprefix("val_dice_"): round(value, 4)
                for name, value in best.items()
                if name.startswith("val_dice_") and math.isfinite(value)
            }
        }
        if job.val.ids
        else {},
    }
