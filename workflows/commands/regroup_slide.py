"""One slide whose label map gets other classes: masks, pyramid, figures and preview made anew.

The stored labels are read and written block by block. Most memory is taken to count the tumor foci,
as in the last step of a run. The folder that the slide comes from is only read.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import inf
from typing import Any

import numpy as np

from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.provenance import read_provenance
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import SlideSummary, count_cores
from noctile.pipeline.models.folder import sha256_of
from noctile.pipeline.plan import HEAT_FACTOR, Block, TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.regroup import (
    Groups,
    Regrouping,
    confidence_is_known,
    regrouping,
    tumor_map_is_known,
)
from noctile.pipeline.stitch.block import pool_sums
from noctile.workflows.commands.merge_copy import (
    DamagedResultError,
    check_sums,
    checked_record,
    copy_file,
)
from noctile.workflows.jobs.finish import measure_blocks
from noctile.workflows.jobs.prepare import laid_out
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.jobs.regions import region_figures
from noctile.workflows.jobs.worker import planned_roi
from noctile.workflows.results.checksums import slide_fault, write_with_checksums
from noctile.workflows.results.durable import sync_names
from noctile.workflows.results.files import read_required_json, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import promote, remove
from noctile.workflows.settings import short_hash


@dataclass(frozen=True, slots=True)
class GroupsFile:
    """A groups file as it was read.

    Attributes:
        text: content of the file.
        groups: the same content, checked.
    """

    text: str
    groups: Groups

    @property
    def key(self) -> str:
        """Hash of the values in the file; comments do not change it."""
        return short_hash(self.groups.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class RegroupJob:
    """New classes for one slide.

    Attributes:
        key: id of the slide.
        source: folder of the finished slide.
        staged: folder in which the new result is made.
        final: folder to which it moves.
        file: groups file.
        run: run id of the call that made the finished slide.
        threads: number of blocks that are made at the same time.
        limit_s: time limit (s).
    """

    key: str
    source: SlideFolder
    staged: SlideFolder
    final: SlideFolder
    file: GroupsFile
    run: str
    threads: int
    limit_s: float = inf

    @property
    def group(self) -> str:
        """The slide's id: each slide is a group of its own."""
        return self.key


@dataclass(frozen=True, slots=True)
class _Source:
    """A finished slide, opened.

    Attributes:
        described: contents of its ``plan.json``.
        plan: its tiles and blocks.
        stats: statistics of each block, by its (row, col).
        store: its masks.
        about: provenance of its masks.
        summary: contents of its ``summary.json``.
    """

    described: Mapping[str, Any]
    plan: TilePlan
    stats: Mapping[tuple[int, int], BlockStats]
    store: MaskStore
    about: Mapping[str, Any]
    summary: Mapping[str, Any]


def regroup_slide(job: RegroupJob) -> str:
    """Make the result of a slide with other classes, and move it to its place.

    Returns:
        fault of the finished slide that prevents it; "" if the new result stands.

    Raises:
        UsageError: if the groups do not fit the classes of the slide.
        StoreError: if the file system refuses.
    """
    try:
        try:
            _make(job)
        except BaseException:
            with suppress(OSError):
                remove(job.staged)
            raise
    except DamagedResultError as error:
        return str(error)
    promote(job.staged, job.final)
    return ""


def is_current(job: RegroupJob) -> bool:
    """Tell if the result in the job's final folder is that of the same finished slide and groups.

    Raises:
        StoreError: if the disk cannot read a file.
    """
    if slide_fault(job.final) is not None:
        return False
    made = read_required_json(job.final.summary).get("regrouped")
    if not isinstance(made, Mapping) or made.get("groups_key") != job.file.key:
        return False
    try:
        return bool(made["source"]["checksums_sha256"] == sha256_of(job.source.checksums))
    except (OSError, LookupError, TypeError):
        return False


def regrouping_of(store: MaskStore, groups: Groups) -> Regrouping:
    """Apply the groups to the classes of a finished slide.

    Raises:
        UsageError: if they do not fit.
        StoreError: if the masks cannot be read.
    """
    known = tumor_map_is_known(read_provenance(store.path))
    return regrouping(groups, store.layout.classes, tumor_map_is_known=known)


def _make(job: RegroupJob) -> None:
    """Write every file of the new result; ``summary.json`` comes last and makes it done."""
    try:
        sums = checked_record(job.source)
        check_sums(job.source, sums)
        remove(job.staged)
        job.staged.path.mkdir(parents=True, exist_ok=True)
        source = _opened(job.source)
        with _reading():
            change = regrouping_of(source.store, job.file.groups)
        about = _about(job, source, change)
        plan = replace(source.plan, n_classes=len(change.classes))
        store = _laid_out(job, source, change, about)
        for name in {job.source.tissue.name, job.source.roi.name} & sums.keys():
            copy_file(job.source.path / name, job.staged.path / name, sums[name])
        key = short_hash([source.described["key"], job.file.key])
        laid = {"key": key, "plan": plan.to_json(), "files": laid_out(job.staged)}
        write_json(job.staged.plan, {**source.described, **laid})
        stats = _write_blocks(source, store, plan, change, job.threads)
        plain = {f"{row}.{col}": block.to_json() for (row, col), block in stats.items()}
        write_json(job.staged.block_stats_file, plain, compact=True)
        shards = [job.staged.path / name for block in stats for name in store.block_seals(block)]
        sync_names([*shards, job.staged.plan], job.staged.path)
        roi = planned_roi(job.staged, source.described)
        figures = measure_blocks(job.staged, plan, stats, job.threads, roi)
        summary = _summary(source, figures, change, about)
        summary |= region_figures(job.staged, source.described)
        keys = {"key": key, "pixels_key": short_hash([summary.get("pixels_key"), job.file.key])}
        write_with_checksums(job.staged, summary | keys)
    except OSError as error:
        raise StoreError(
            f"{job.staged.path} cannot be written: {error.strerror or error}; free space or fix "
            "its folder, and type the same command again"
        ) from error


@contextmanager
def _reading() -> Iterator[None]:
    """Turn errors that values of a finished slide cause into a `DamagedResultError`.

    Raises:
        DamagedResultError: if a value is not as a run writes it.
    """
    try:
        yield
    except (StoreError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DamagedResultError(f"it cannot be read: {error!s:.300}") from error


def _opened(folder: SlideFolder) -> _Source:
    """Open a finished slide.

    Raises:
        DamagedResultError: if a file is not as a run writes it.
    """
    with _reading():
        described = read_required_json(folder.plan)
        plan = TilePlan.from_json(described["plan"])
        written = read_required_json(folder.block_stats_file)
        found = {block.key: written[f"{block.row}.{block.col}"] for block in plan.blocks}
        stats = {key: BlockStats.from_json(values) for key, values in found.items()}
        store = MaskStore.open(folder.mask)
        if unplanned := sorted(set(store.stored_shards()) - stats.keys()):
            raise ValueError(f"its plan does not name blocks that have labels: {unplanned[:3]}")
        return _Source(
            described,
            plan,
            stats,
            store,
            read_provenance(store.path),
            read_required_json(folder.summary),
        )


def _laid_out(
    job: RegroupJob, source: _Source, change: Regrouping, about: Mapping[str, Any]
) -> MaskStore:
    """Create the masks of the new result, without labels."""
    layout = source.store.layout
    with _reading():
        thumbnail = source.store.read_thumbnail()
    return MaskStore.create(
        job.staged.mask,
        MaskLayout(layout.frame, layout.block_px, layout.chunk_px, change.classes),
        thumbnail,
        source.store.thumbnail_frame,
        {**source.about, "regrouped": about},
    )


def _write_blocks(
    source: _Source, store: MaskStore, plan: TilePlan, change: Regrouping, threads: int
) -> dict[tuple[int, int], BlockStats]:
    """Write the blocks of the new masks, a few at a time, and return their statistics."""
    known = change.keeps_confidence and confidence_is_known(source.about)
    with ThreadPoolExecutor(threads, "blocks") as pool:
        write = partial(_write_block, source, store, plan, change, known)
        return dict(zip(source.stats, pool.map(write, plan.blocks), strict=True))


def _write_block(
    source: _Source,
    store: MaskStore,
    plan: TilePlan,
    change: Regrouping,
    knows_confidence: bool,
    block: Block,
) -> BlockStats:
    with _reading():
        stored = source.store.read(block.box)
        heat, confidence = source.store.read_heat_maps(block.box)
        labels = change.labels(stored, heat)
    store.write(block.box, labels, heat, confidence)
    analysed = pool_sums(np, (labels > 0).view(np.uint8)).astype(np.uint8)
    codes = [info.code for info in change.classes]
    known = confidence if knows_confidence else None
    cores = tuple(count_cores(plan, block, codes, labels, analysed, known))
    return replace(source.stats[block.key], cores=cores)


def _about(job: RegroupJob, source: _Source, change: Regrouping) -> dict[str, Any]:
    """Record of the change, for ``summary.json`` and the attributes of the mask."""
    threshold = change.threshold
    about = {
        "source": {
            "results": str(job.source.path.parent.parent),
            "slide_id": job.key,
            "run": job.run,
            "key": source.summary.get("key"),
            "checksums_sha256": sha256_of(job.source.checksums),
        },
        "groups_key": job.file.key,
        "groups": job.file.text,
        "classes": {name: list(old) for name, old in change.sources.items()},
        "tumor_threshold": threshold and threshold.probability,
        "tumor_map_cell_px": HEAT_FACTOR if threshold else None,
        "tumor_map_least": threshold and threshold.least,
        "confidence_is_known": change.keeps_confidence and confidence_is_known(source.about),
        "tumor_map_is_known": change.same_tumor and tumor_map_is_known(source.about),
        "versions": {"noctile": versions()["noctile"]},
    }
    earlier = source.about.get("regrouped")
    return {**about, "earlier": earlier} if earlier else about


def _summary(
    source: _Source, figures: SlideSummary, change: Regrouping, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Contents of ``summary.json``, without its keys."""
    before = source.summary
    flags = {*before.get("qc_flags", before.get("flags", ()))}
    flags |= set(change.flags if figures.tissue_area_mm2 else ())
    how = f"tumor map >= {change.threshold.probability:g}" if change.threshold else "classes merged"
    return {
        **before,
        **asdict(figures),
        "qc_flags": sorted(flags),
        "model": f"{before.get('model')} ({how})",
        "regrouped": dict(about),
    }
