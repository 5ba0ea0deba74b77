"""What one task does: prepare a slide, segment a block, finish a slide. Each takes one small, picklable argument."""

import platform
import threading
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.errors import MppImplausibleError, StoreError
from pipeline.geometry import Extent, Frame
from pipeline.masks.pyramid import build_pyramid
from pipeline.masks.store import MaskLayout, MaskStore
from pipeline.measure import Tally, TileRow
from pipeline.models.card import ModelCard, Predictor
from pipeline.models.load import load_predictor
from pipeline.plan import TilePlan, plan_tiles
from pipeline.preview import preview_of
from pipeline.segment import segment_block
from pipeline.slides.base import SlideInfo, SlideReader
from pipeline.slides.find import SlideEntry
from pipeline.slides.open import open_slide
from pipeline.slides.overview import read_overview
from pipeline.tissue import TissueMask, find_tissue
from workflows.config import PIXEL_SETTINGS, RunSettings, short_hash
from workflows.folders import SlideFolder, read_json, write_atomic, write_json
from workflows.schedule import Step

MAX_TISSUE_MM = 100.0
"""Tissue wider than this fits no slide (mm; the usual ones are 75 mm long): the pixel size must be wrong."""

_OPEN_SLIDES = 4
"""Slides that a process keeps open: those whose blocks are under way, bounded so that handles do not grow."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all jobs of a run share: names and numbers.

    Attributes:
        out: the output folder.
        model: the model's folder.
        card: what the model says of itself; its sha256 was checked, and workers check it again.
        settings: of the run.
        device: where the model runs.
        threads: torch threads in a process.
        pixels_key: hash of all that a mask depends on beside its slide.
    """

    out: str
    model: str
    card: ModelCard
    settings: RunSettings
    device: str
    threads: int
    pixels_key: str

    def folder(self, slide_id: str) -> SlideFolder:
        """Where a slide's results stand."""
        return SlideFolder(Path(self.out) / "slides" / slide_id)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the run learns from ``prepare``.

    Attributes:
        key: content key of the slide under this model and these settings.
        fresh: whether it was planned from nothing, so that no block of an earlier run counts.
        finished: whether the slide is complete already.
        blocks: (row, col) of all blocks with tissue.
        predictions: of all blocks together.
        tiles_of: number of predictions of each block.
    """

    key: str
    fresh: bool
    finished: bool
    blocks: tuple[tuple[int, int], ...]
    tiles_of: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepJob:
    """A step of the schedule with all that it takes to do it anywhere."""

    step: Step
    entry: SlideEntry
    run: RunContext

    @property
    def key(self) -> str:
        """The step's."""
        return self.step.key

    def __call__(self) -> Any:
        """Do it."""
        return _DO[self.step.kind](self)


def prepare_slide(job: StepJob) -> Prepared:
    """Open a slide, find its tissue, plan its tiles and lay out its stores; or find all that done.

    Raises:
        SlideError: if the slide cannot be opened, read or believed.
    """
    run, folder = job.run, job.run.folder(job.step.slide_id)
    reader = open_slide(job.entry.path, slide_id=job.step.slide_id, mpp=job.entry.mpp)
    try:
        key = short_hash([reader.info.fingerprint, job.entry.mpp, run.pixels_key])
        if (read_json(folder.summary) or {}).get("key") == key and folder.complete:
            return Prepared(key, False, True, (), ())
        described = read_json(folder.plan) or {}
        if described.get("key") == key and folder.mask.exists() and folder.heat.exists():
            plan, fresh = TilePlan.from_json(described["plan"]), False
        else:
            plan, fresh = _plan_slide(reader, key, run, folder), True
        return Prepared(key, fresh, False, tuple(b.key for b in plan.blocks), tuple(len(b.tiles) for b in plan.blocks))
    finally:
        reader.close()


def _plan_slide(reader: SlideReader, key: str, run: RunContext, folder: SlideFolder) -> TilePlan:
    info = reader.info
    spec = run.settings.tissue
    mpp = max(spec.mpp, run.card.mpp)  # never finer than the label map, so that every planned block has a label
    overview, overview_frame = read_overview(reader, mpp)
    tissue = find_tissue(overview, overview_frame, spec)
    if tissue.width_mm > MAX_TISSUE_MM:
        raise MppImplausibleError(
            f"{info.path}: at {info.frame.mpp:.4g} um/px ({info.mpp_source}) its tissue would be {tissue.width_mm:.0f} "
            f"mm wide, more than a slide holds ({MAX_TISSUE_MM:.0f} mm); pass the true pixel size with --mpp or in the "
            "manifest"
        )
    plan = plan_tiles(info.slide_id, info.frame, tissue, run.settings.tiling(run.card))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.clear()
    layout = MaskLayout(plan.frame, plan.block_px, plan.chunk_px, run.card.classes)
    MaskStore.create(folder.mask, layout, overview, overview_frame, provenance(info, run))
    write_atomic(folder.tissue, lambda p: Image.fromarray(tissue.mask).convert("L").save(p, optimize=False))
    described = {
        "key": key,
        "slide": describe(info),
        "tissue": {"frame": asdict(tissue.frame), "rule": tissue.rule, "flags": list(tissue.flags)},
        "plan": plan.to_json(),
    }
    write_json(folder.plan, described)
    return plan


def segment_block_job(job: StepJob) -> int:
    """Segment one block and write its shard. Returns the number of predictions."""
    run, step = job.run, job.step
    folder = run.folder(step.slide_id)
    assert step.block is not None  # noqa: S101 - the schedule gives every 'segment' its block
    plan, tissue = _cached_plan(folder, folder.plan.stat().st_mtime_ns)
    block = plan.block(step.block)
    reader = _cached_reader(job.entry)
    predict = predictor(run.model, run.device, run.threads, run.settings)
    mask = segment_block(reader, plan, block, tissue, predict, run.settings.batch_size or predict.batch_size)
    MaskStore.open(folder.mask).write(mask.box, mask.labels, mask.heat, mask.confidence)
    return len(block.tiles)


def finish_slide(job: StepJob) -> None:
    """Build the pyramid, measure, draw the preview; ``summary.json`` comes last and makes the slide done."""
    run = job.run
    folder = run.folder(job.step.slide_id)
    described = read_json(folder.plan)
    assert described is not None  # noqa: S101 - 'finish' follows 'prepare'
    plan = TilePlan.from_json(described["plan"])
    store = MaskStore.open(folder.mask)
    classes = run.card.classes
    tally = Tally(store, plan, classes)
    build_pyramid(store, tally, run.threads)
    if missing := sorted({block.key for block in plan.blocks} - set(store.stored_blocks())):
        raise StoreError(f"{folder.mask}: the shards of blocks {missing} have gone; delete {folder.path} and run again")
    summary, tiles = tally.summary()
    table = tile_table(tiles, [c.name for c in classes])
    write_atomic(folder.tiles, lambda p: pq.write_table(table, p, compression="zstd"))
    preview = preview_of(store, job.step.slide_id, summary.class_area_mm2)
    write_atomic(folder.preview, lambda p: preview.save(p, format="JPEG", quality=90))
    flags = [
        *described["tissue"]["flags"],
        *(["mpp_estimated"] if described["slide"]["mpp_source"] == "objective power" else []),
    ]
    write_json(
        folder.summary,
        {
            "key": described["key"],
            **described["slide"],
            **asdict(summary),
            "label_map_mpp": [plan.frame.mpp_y, plan.frame.mpp_x],
            "tissue_rule": described["tissue"]["rule"],
            "flags": sorted(flags),
            "model": run.card.name,
            "model_sha256": run.card.sha256,
            "versions": versions(),
        },
    )


_DO = {"prepare": prepare_slide, "segment": segment_block_job, "finish": finish_slide}


def describe(info: SlideInfo) -> dict[str, Any]:
    """A slide's facts as plain values; um, px of level 0."""
    return {
        "slide_id": info.slide_id,
        "path": str(info.path),
        "fingerprint": info.fingerprint,
        "vendor": info.vendor,
        "reader": info.reader,
        "compression": info.compression,
        "objective_power": info.objective_power,
        "mpp": [info.frame.mpp_y, info.frame.mpp_x],
        "mpp_source": info.mpp_source,
        "extent_px": [info.frame.extent.height, info.frame.extent.width],
        "bounds_px": [info.bounds.y, info.bounds.x, info.bounds.height, info.bounds.width],
        "levels_mpp": [[level.mpp_y, level.mpp_x] for level in info.levels],
    }


def provenance(info: SlideInfo, run: RunContext) -> dict[str, Any]:
    """What stands in a mask's metadata, so that the file explains itself."""
    return {
        "slide": describe(info),
        "model": {"name": run.card.name, "sha256": run.card.sha256, "licence": run.card.licence},
        "settings": run.settings.model_dump(mode="json", include=PIXEL_SETTINGS),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what touches pixels."""
    names = ("noctile", "torch", "segmentation-models-pytorch", "openslide-python", "tiffslide", "zarr", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def tile_table(tiles: list[TileRow], class_names: list[str]) -> pa.Table:
    """Rows of ``tiles.parquet``; one column ``fraction_<class>`` for each class."""
    names = ("row", "col", "y_um", "x_um", "height_um", "width_um", "tissue_fraction")
    columns: dict[str, Any] = {}
    for name in names:
        kind = pa.int32() if name in ("row", "col") else pa.float64()
        columns[name] = pa.array([getattr(t, name) for t in tiles], kind)
    for k, name in enumerate(class_names):
        columns[f"fraction_{name}"] = pa.array([t.class_fractions[k] for t in tiles], pa.float64())
    columns["mean_confidence"] = pa.array([t.mean_confidence for t in tiles], pa.float64())
    return pa.table(columns)


_LOADING = threading.Lock()
"""Held while a model is loaded: on a GPU two jobs run in one process, and both would load it."""


def predictor(model: str, device: str, threads: int, settings: RunSettings) -> Predictor:
    """The model of this process: loaded once, its weights checked against the card."""
    with _LOADING:
        return _loaded(model, device, threads, settings)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str, threads: int, settings: RunSettings) -> Predictor:
    predict = load_predictor(Path(model), device, threads=threads, compiled=settings.compile)
    if settings.refine == "none":
        return predict
    from pipeline.models.refine import RefinedPredictor  # noqa: PLC0415 - imports torch

    return RefinedPredictor(predict)


@lru_cache(maxsize=_OPEN_SLIDES)
def _cached_reader(entry: SlideEntry) -> SlideReader:
    return open_slide(entry.path, slide_id=entry.slide_id, mpp=entry.mpp)


@lru_cache(maxsize=_OPEN_SLIDES)
def _cached_plan(folder: SlideFolder, _written_ns: int) -> tuple[TilePlan, TissueMask]:
    return _read_plan(folder)


def _read_plan(folder: SlideFolder) -> tuple[TilePlan, TissueMask]:
    described = read_json(folder.plan)
    if described is None:
        raise StoreError(f"{folder.plan} has gone while the run was using it; run the same command again")
    with Image.open(folder.tissue) as image:
        mask = np.asarray(image) > 0
    about = described["tissue"]
    frame = Frame(Extent(**about["frame"]["extent"]), about["frame"]["mpp_y"], about["frame"]["mpp_x"])
    return TilePlan.from_json(described["plan"]), TissueMask(mask, frame, about["rule"], tuple(about["flags"]))
