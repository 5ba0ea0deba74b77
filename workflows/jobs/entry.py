"""What one task does: prepare a slide, segment a block, finish a slide. Each takes one small,
picklable argument.
"""

import atexit
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from noctile.pipeline.errors import (
    ModelError,
    MppImplausibleError,
    StoreError,
    UnreadableTissueError,
)
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskLayout, MaskStore
from noctile.pipeline.measure import TileRow, measure
from noctile.pipeline.models.card import Predictor
from noctile.pipeline.models.load import Backend, load_predictor
from noctile.pipeline.models.pixel_labels import predict_labels
from noctile.pipeline.normalize import Amounts, normalized, stain_amounts
from noctile.pipeline.plan import TileGrid, TilePlan, plan_tiles
from noctile.pipeline.preview import preview_of
from noctile.pipeline.quality import MAX_UNREADABLE, BlockStats, SlideQuality
from noctile.pipeline.segment import read_tiles, segment_block
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.channel_order import BGR_FLAG
from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.slides.fingerprint import mtime_fingerprint
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.stitch.canvas import Canvas
from noctile.pipeline.tissue import TissueMask, find_tissue
from noctile.workflows.inference.server import ServedPredictor
from noctile.workflows.jobs.messages import Prepared, RunContext, StepJob
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import (
    SlideFolder,
    is_temporary,
    promote,
    read_json,
    sweep,
    write_atomic,
    write_json,
)
from noctile.workflows.settings import PIXEL_SETTINGS, RunSettings

MAX_TISSUE_MM = 100.0
"""Tissue wider than this fits no slide (mm; the usual ones are 75 mm long): the pixel size must be
wrong."""

_MAX_PLACES = 3
"""FaultOrigin that a message names; all of them stand in blocks.json."""

_STAIN_TILES, _STAIN_STEP = 48, 4
"""A slide's stain is measured on so many tiles, or up to twice as many, and there on one pixel of 4
x 4: what that costs does not grow with the slide."""

_OPEN_SLIDES = 4
"""Slides that a process keeps open: those whose blocks are under way, bounded so that handles do
not grow."""


def prepare_slide(job: StepJob) -> Prepared:
    """Open a slide, find its tissue, plan its tiles and lay out its stores in staging; or find all
    that done.

    A result that stands in ``slides/`` is not touched.

    Raises:
        SlideError: if the slide cannot be opened, read or believed.
        StoreError: if a file of the slide cannot be read or written.
    """
    run, folder = job.run, job.run.folder(job.step.slide_id)
    reader = open_slide(job.entry.path, slide_id=job.step.slide_id, mpp=job.entry.mpp)
    try:
        written = mtime_fingerprint(reader.info.path)
        content = reader.info.fingerprint
        key = run.key(content, written, job.entry.mpp)
        if (read_json(folder.summary) or {}).get("key") == key and folder.complete:
            return Prepared(key, False, True, (), (), content)
        before = _planned_before(key, run.staging(job.step.slide_id), folder)
        plan = before or _plan_slide(reader, key, written, run)
        keys, tiles_of = tuple(b.key for b in plan.blocks), tuple(len(b.tiles) for b in plan.blocks)
        return Prepared(key, before is None, False, keys, tiles_of, content)
    finally:
        reader.close()


def _planned_before(key: str, staged: SlideFolder, folder: SlideFolder) -> TilePlan | None:
    """Plan that an earlier run made under the same key, and whose masks are laid out; None if there
    is none.

    The slide goes on in staging; or in the result's own folder, where all blocks are done and only
    a measured file has gone.
    """
    if plan := _plan_of(key, staged):
        sweep(staged.path)
        return plan
    if folder.facts.exists() and (plan := _plan_of(key, folder)):
        staged.remove()
        return plan
    return None


def _plan_of(key: str, folder: SlideFolder) -> TilePlan | None:
    described = read_json(folder.plan) or {}
    laid_out = described.get("key") == key and folder.mask.exists() and folder.heat.exists()
    return TilePlan.from_json(described["plan"]) if laid_out else None


def _plan_slide(reader: SlideReader, key: str, written: str, run: RunContext) -> TilePlan:
    info = reader.info
    folder = run.staging(info.slide_id)
    spec = run.settings.tissue
    mpp = max(
        spec.mpp, run.card.mpp
    )  # never finer than the label map, so that every planned block has a label
    overview, overview_frame = read_thumbnail(reader, mpp)
    tissue = find_tissue(overview, overview_frame, spec)
    if tissue.width_mm > MAX_TISSUE_MM:
        raise MppImplausibleError(
            f"{info.path}: at {info.frame.mpp:.4g} um/px ({info.mpp_source}) its tissue would be {tissue.width_mm:.0f} "
            f"mm wide, more than a slide holds ({MAX_TISSUE_MM:.0f} mm); pass the true pixel size with --mpp or in the "
            "manifest"
        )
    plan = plan_tiles(info.slide_id, info.frame, tissue, run.settings.tiling(run.card))
    stain = _stain_amounts(reader, plan) if run.card.stain else None
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.clear()
    layout = MaskLayout(plan.frame, plan.block_px, plan.chunk_px, run.card.classes)
    MaskStore.create(
        folder.mask, layout, overview, overview_frame, provenance(info, run) | {"stain": stain}
    )
    write_atomic(
        folder.tissue, lambda p: Image.fromarray(tissue.mask).convert("L").save(p, optimize=False)
    )
    described = {
        "key": key,
        "slide": describe(info) | {"modified": written},
        "tissue": {
            "frame": asdict(tissue.frame),
            "rule": tissue.rule,
            "flags": [*tissue.flags, *([BGR_FLAG] if reader.bgr else [])],
            "area_mm2": round(tissue.area_mm2, 6),
        },
        "stain": stain,
        "plan": plan.to_json(),
    }
    write_json(folder.plan, described)
    return plan


def _stain_amounts(reader: SlideReader, plan: TilePlan) -> Amounts | None:
    """Of the slide's tissue, from tiles that are spread evenly over it; None where none can be
    read.
    """
    spread = plan.tiles[:: max(1, len(plan.tiles) // _STAIN_TILES)]
    tiles = read_tiles(reader, plan, spread)
    return stain_amounts(pixels[::_STAIN_STEP, ::_STAIN_STEP] for _, pixels in tiles)


def segment_block_job(job: StepJob) -> int:
    """Segment one block; write what is to be known of it, then its shard. Returns the number of its
    tiles.
    """
    run, step = job.run, job.step
    folder = run.staging(step.slide_id)
    assert step.block is not None  # noqa: S101 - the schedule gives every 'segment' its block
    planned_ns = folder.plan.stat().st_mtime_ns
    plan, tissue, stain, store = _open_results(folder, planned_ns)
    block = plan.block(step.block)
    reader = _SLIDES.get(job.entry, planned_ns, bgr=BGR_FLAG in tissue.flags)
    predict = normalized(predictor(run), stain)
    mask = segment_block(
        reader, plan, block, tissue, predict, run.settings.batch_size or predict.batch_size
    )
    write_json(folder.block_stats(block.key), mask.stats.to_json(), compact=True)
    store.write(mask.box, mask.labels, mask.heat, mask.confidence)
    return len(block.tiles)


def finish_slide(job: StepJob) -> None:
    """Measure a slide whose blocks are done, and put its result in its place.

    Twice is as good as once: a process that dies after the promotion has its step repeated.

    Raises:
        UnreadableTissueError: if too much of the tissue could not be read.
        StoreError: if the masks cannot be read or written.
    """
    place = job.run.folder(job.step.slide_id)
    folder = job.run.under_way(job.step.slide_id)
    if not folder.complete:
        _complete(job, folder)
    if folder != place:
        promote(folder, place)


def _complete(job: StepJob, folder: SlideFolder) -> None:
    """Build the pyramid, measure, draw the preview; ``summary.json`` comes last and makes the slide
    done.
    """
    run = job.run
    described = read_json(folder.plan)
    if described is None:
        raise StoreError(
            f"{folder.plan} has gone while the run was using it; run the same command again"
        )
    plan = TilePlan.from_json(described["plan"])
    facts = _block_facts(folder, plan)
    trust = SlideQuality.of(facts.values())
    if trust.unreadable_fraction > MAX_UNREADABLE:
        folder.plan.unlink()  # so that a retry reads everything again
        raise _unreadable(described["slide"], plan, facts, trust)
    store = MaskStore.open(folder.mask)
    classes = run.card.classes
    build_pyramid(store, run.threads)
    if missing := sorted(
        {key for key, f in facts.items() if f.analysed_px} - set(store.stored_blocks())
    ):
        raise StoreError(
            f"{folder.mask}: the shards of blocks {missing} have gone; delete {folder.path} and run again"
        )
    summary, tiles = measure(
        store, plan, classes, (core for f in facts.values() for core in f.cores)
    )
    table = tile_table(tiles, [c.name for c in classes])
    write_atomic(folder.tiles, lambda p: pq.write_table(table, p, compression="zstd"))
    preview = preview_of(store, job.step.slide_id, summary.class_area_mm2)
    write_atomic(folder.preview, lambda p: preview.save(p, format="JPEG", quality=90))
    flags = [
        *described["tissue"]["flags"],
        *(["mpp_estimated"] if described["slide"]["mpp_source"] == "objective power" else []),
        *trust.flags(summary.mean_confidence, len(classes)),
    ]
    write_with_checksums(
        folder,
        {
            "key": described["key"],
            **described["slide"],
            **asdict(summary),
            **asdict(trust),
            "label_map_mpp": [plan.frame.mpp_y, plan.frame.mpp_x],
            "tissue_rule": described["tissue"]["rule"],
            "flags": sorted(flags),
            "model": run.card.name,
            "model_sha256": run.card.sha256,
            "backend": run.backend,
            "versions": versions(),
        },
    )


def _block_facts(folder: SlideFolder, plan: TilePlan) -> dict[tuple[int, int], BlockStats]:
    """What each block of a plan left, by its key; from then on in one file.

    Raises:
        StoreError: if that of a block is missing, or a file cannot be read or written.
    """
    before = read_json(folder.facts) or {}
    written = (path for path in folder.blocks.glob("*.json") if not is_temporary(path))
    found = {path.stem: read_json(path) for path in sorted(written)}
    names = {f"{row}.{col}": (row, col) for row, col in (block.key for block in plan.blocks)}
    known = {name: found.get(name) or before.get(name) for name in names}
    facts = {
        key: BlockStats.from_json(values) for name, key in names.items() if (values := known[name])
    }
    if len(facts) < len(names):
        missing = sorted(set(names.values()) - facts.keys())
        raise StoreError(
            f"{folder.blocks}: the files of blocks {missing} have gone; delete {folder.path} and run again"
        )
    write_json(folder.facts, known, compact=True)
    shutil.rmtree(folder.blocks, ignore_errors=True)
    return facts


def _unreadable(
    slide: dict[str, Any],
    plan: TilePlan,
    facts: dict[tuple[int, int], BlockStats],
    trust: SlideQuality,
) -> UnreadableTissueError:
    """What could not be read, and where, in pixels of level 0."""
    native = Frame(Extent(*slide["extent_px"]), *slide["mpp"])
    unread = sorted(position for f in facts.values() for position in f.unread)
    boxes = [
        plan.frame.project(plan.grid.core(*p).intersect(plan.frame.box), native)
        for p in unread[:_MAX_PLACES]
    ]
    places = "; ".join(f"rows {b.y} to {b.y_stop}, columns {b.x} to {b.x_stop}" for b in boxes)
    more = f"; and {len(unread) - len(boxes)} more" if len(unread) > len(boxes) else ""
    return UnreadableTissueError(
        f"slide {slide['slide_id']}: {trust.unreadable_fraction:.1%} of its tissue cannot be decoded, more than "
        f"{MAX_UNREADABLE:.0%}: level 0, {places}{more}. The file is damaged or cut short there: copy it again from "
        "where it was scanned or archived, then run with --retry-failed"
    )


DO: Mapping[str, Callable[[StepJob], Any]]
DO = {"prepare": prepare_slide, "segment": segment_block_job, "finish": finish_slide}
"""What the steps of a schedule are."""


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
        "device": run.device,
        "backend": run.backend,
        "settings": run.settings.model_dump(mode="json", include=PIXEL_SETTINGS),
        "versions": versions(),
    }


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
"""Held while a model is loaded: ahead of the first job, which waits for it, or by one of several
jobs in a process."""


def predictor(run: RunContext) -> Predictor:
    """The model of this process, or of the server that it asks: loaded once, its weights checked
    against the card.

    Raises:
        ModelError: if it cannot be loaded, or is not that of the run.
        EngineLostError: if the server has gone.
    """
    with _LOADING:
        if run.servers:
            predict: Predictor = _served(run.servers[os.environ["CUDA_VISIBLE_DEVICES"]])
        else:
            key = (
                run.pixels_key
            )  # workers that outlive a run may see another model in the same folder
            predict = _loaded(
                key,
                run.model,
                run.device,
                run.backend,
                run.threads,
                run.processes_per_gpu,
                run.settings,
            )
    if predict.card != run.card:
        raise ModelError(
            f"the model in {run.model} is not the one that the run began with: somebody changed the folder since, or "
            "there is another on this machine; when it is as it should be, run the same command with --retry-failed"
        )
    return predict


def load_ahead(run: RunContext) -> None:
    """Load the model and let it look once, at nothing, for a network is compiled when it is first
    used.

    Workers do so while slides are looked at. What goes wrong is not said: it will go wrong again in
    a job, which says.
    """
    with suppress(Exception):
        ready(run)


def ready(run: RunContext) -> Predictor:
    """`predictor`, after its first look.

    Raises:
        ModelError: as there.
    """
    predict = predictor(run)
    side = run.card.tile_px
    tile = np.zeros((1, side, side, 3), np.uint8)
    if run.settings.window == "crop":
        grid = TileGrid(side, run.settings.tiling(run.card).overlap_px, Extent(side, side))
        predict_labels(predict, tile, Canvas.labelled_part(grid))
    else:
        predict(tile)
    return predict


@lru_cache(maxsize=1)
def _served(address: str) -> ServedPredictor:
    return ServedPredictor(address)


@lru_cache(maxsize=1)
def _loaded(
    _pixels_key: str,
    model: str,
    device: str,
    backend: Backend,
    threads: int,
    processes_per_gpu: int,
    settings: RunSettings,
) -> Predictor:
    return load_predictor(
        Path(model),
        device,
        threads,
        compiled=settings.compile,
        backend=backend,
        processes_per_gpu=processes_per_gpu,
    )


class _OpenSlides:
    """The slides that this process read last, kept open; the oldest is closed when there is no
    room.

    Args:
        room: more than the jobs that run here at once, so that the oldest is in nobody's use.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._readers: OrderedDict[tuple[SlideEntry, int], SlideReader] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, entry: SlideEntry, planned_ns: int, *, bgr: bool) -> SlideReader:
        """A slide's reader.

        Args:
            entry: of the slide.
            planned_ns: when it was planned; a file that was replaced is planned again, and opened
                again.
            bgr: `SlideReader.bgr`, as it was found then.

        Raises:
            SlideError: if it cannot be opened.
        """
        with self._lock:
            if reader := self._readers.get((entry, planned_ns)):
                self._readers.move_to_end((entry, planned_ns))
                return reader
        reader = open_slide(entry.path, slide_id=entry.slide_id, mpp=entry.mpp, bgr=bgr)
        with self._lock:
            kept = self._readers.setdefault((entry, planned_ns), reader)
            too_many = (
                [self._readers.popitem(last=False)[1]] if len(self._readers) > self._room else []
            )
        for spare in (*too_many, *([reader] if kept is not reader else [])):
            spare.close()
        return kept

    def close(self) -> None:
        """Close them all."""
        while self._readers:
            self._readers.popitem()[1].close()


_SLIDES = _OpenSlides(_OPEN_SLIDES)
atexit.register(_SLIDES.close)


@lru_cache(maxsize=_OPEN_SLIDES)
def _open_results(
    folder: SlideFolder, _written_ns: int
) -> tuple[TilePlan, TissueMask, Amounts | None, MaskStore]:
    return *read_plan(folder), MaskStore.open(folder.mask)


def read_plan(folder: SlideFolder) -> tuple[TilePlan, TissueMask, Amounts | None]:
    """What was planned for a slide, where its tissue is, and how it is stained, if the model asks
    for that.

    Raises:
        StoreError: if there is no plan.
    """
    described = read_json(folder.plan)
    if described is None:
        raise StoreError(
            f"{folder.plan} has gone while the run was using it; run the same command again"
        )
    with Image.open(folder.tissue) as image:
        mask = np.asarray(image) > 0
    about = described["tissue"]
    frame = Frame(
        Extent(**about["frame"]["extent"]), about["frame"]["mpp_y"], about["frame"]["mpp_x"]
    )
    tissue = TissueMask(mask, frame, about["rule"], tuple(about["flags"]))
    return TilePlan.from_json(described["plan"]), tissue, described.get("stain")
