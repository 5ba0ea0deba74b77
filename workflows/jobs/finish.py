"""The last step of a slide: build the pyramid, measure, and move the result to its place."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from noctile.pipeline.columns import TILE_POSITION, tile_columns
from noctile.pipeline.errors import StoreError, UnreadableTissueError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import SlideSummary, TileRow, measure
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.preview import preview_of
from noctile.pipeline.quality import BlockStats, SlideQuality
from noctile.pipeline.readable import checked_quality
from noctile.pipeline.roi.regions import Roi
from noctile.workflows.jobs.messages import StepJob
from noctile.workflows.jobs.provenance import given_values, planned_flags, versions
from noctile.workflows.jobs.regions import region_figures
from noctile.workflows.jobs.unchanged import check_unchanged
from noctile.workflows.jobs.worker import planned_roi
from noctile.workflows.results.blocks import collect_block_stats
from noctile.workflows.results.checksums import slide_fault, write_with_checksums
from noctile.workflows.results.durable import sync_names
from noctile.workflows.results.files import read_required_json, write_atomic
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import promote

_Stats = Mapping[tuple[int, int], BlockStats]
"""Statistics of each block, by its (row, col)."""


def finish_slide(job: StepJob) -> None:
    """Measure a slide whose blocks are done, and move its result to its place.

    The step may be repeated after its end: a process can die between the move and its report.

    Raises:
        ChangedWhileReadError: if the slide's file was changed since the slide was planned.
        UnreadableTissueError: if too much of the tissue could not be read.
        StoreError: if the masks cannot be read or written.
    """
    results, slide_id = job.run.results, job.step.slide_id
    final, folder = results.slide(slide_id), results.under_way(slide_id)
    if slide_fault(folder):
        _complete(job, folder)
    if folder != final:
        promote(folder, final)


def _complete(job: StepJob, folder: SlideFolder) -> None:
    """Write every file of a finished slide; ``summary.json`` comes last and makes it done."""
    check_unchanged(job, folder)
    run = job.run
    described = read_required_json(folder.plan)
    plan = TilePlan.from_json(described["plan"])
    stats = collect_block_stats(folder, plan)
    native = Frame(Extent(*described["slide"]["extent_px"]), *described["slide"]["mpp"])
    try:
        quality = checked_quality(plan.slide_id, native, plan, stats.values())
    except UnreadableTissueError:
        folder.plan.unlink()  # so that a retry reads everything again
        raise
    roi = planned_roi(folder, described)
    summary = measure_blocks(folder, plan, stats, run.resources.threads, roi)
    regions = region_figures(folder, described)
    write_with_checksums(folder, _summary(described, plan, summary, quality, job) | regions)


def measure_blocks(
    folder: SlideFolder, plan: TilePlan, stats: _Stats, threads: int, roi: Roi | None = None
) -> SlideSummary:
    """Build the pyramid of a slide whose blocks are done, measure it, and draw its preview.

    The files are on the disk afterwards: the coarse levels, ``tiles.parquet`` and ``preview.jpg``.

    Args:
        folder: folder of the slide.
        plan: plan of the slide.
        stats: statistics of each block, by its (row, col).
        threads: number of threads.
        roi: regions of interest to which the slide is confined, or None.

    Raises:
        StoreError: if the masks cannot be read or written, or a shard is missing.
    """
    store = MaskStore.open(folder.mask)
    classes = store.layout.classes
    coarse = build_pyramid(store, threads)
    _check_shards(store, stats, folder)
    cores = (core for block in stats.values() for core in block.cores)
    summary, tiles = measure(store, plan, classes, cores, threads)
    table = tile_table(tiles, [c.name for c in classes])
    write_atomic(folder.tiles, lambda p: pq.write_table(table, p, compression="zstd"))
    write_preview(folder, preview_of(store, plan.slide_id, summary.class_area_mm2, roi))
    sync_names([*coarse, folder.preview], folder.path)
    return summary


def write_preview(folder: SlideFolder, preview: Image.Image) -> None:
    """Write ``preview.jpg``.

    Raises:
        StoreError: if the file system refuses.
    """
    write_atomic(folder.preview, lambda p: preview.save(p, format="JPEG", quality=90))


def _check_shards(store: MaskStore, stats: _Stats, folder: SlideFolder) -> None:
    """Check that every block with analysed pixels has its shard.

    Raises:
        StoreError: if a shard is missing.
    """
    analysed = {key for key, s in stats.items() if s.analysed_px}
    if missing := sorted(analysed - set(store.stored_shards())):
        raise StoreError(
            f"{folder.mask}: the shards of blocks {missing} have gone; delete {folder.path} and "
            "run again"
        )


def _summary(
    described: Mapping[str, Any],
    plan: TilePlan,
    summary: SlideSummary,
    quality: SlideQuality,
    job: StepJob,
) -> dict[str, Any]:
    """Contents of ``summary.json``."""
    run = job.run
    found = quality.flags(summary.mean_confidence, len(run.card.classes))
    return {
        "key": described["key"],
        "pixels_key": run.pixels_key,
        **given_values(job.entry),
        **described["slide"],
        **asdict(summary),
        **asdict(quality),
        "label_map_mpp": [plan.frame.mpp_y, plan.frame.mpp_x],
        "tissue_rule": described["tissue"]["rule"],
        "qc_flags": sorted([*planned_flags(described), *found]),
        "model": run.card.name,
        "model_sha256": run.card.sha256,
        "backend": run.resources.backend,
        "versions": versions(),
    }


def tile_table(tiles: list[TileRow], class_names: list[str]) -> pa.Table:
    """Rows of ``tiles.parquet``, with one column ``fraction_<class>`` for each class."""
    schema = pa.schema([column.field for column in tile_columns(class_names)])
    values = [
        *([getattr(tile, column.name) for tile in tiles] for column in TILE_POSITION),
        *([tile.class_fractions[k] for tile in tiles] for k in range(len(class_names))),
        [tile.mean_confidence for tile in tiles],
    ]
    return pa.table([pa.array(v, f.type) for v, f in zip(values, schema, strict=True)], schema)
