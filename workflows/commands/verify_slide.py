"""Checks of one finished slide: its files, its masks, and the figures that follow from them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.check import check_levels
from noctile.pipeline.masks.provenance import read_provenance
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.folder import sha256_of
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.quality import BlockStats, SlideQuality
from noctile.pipeline.regroup import confidence_is_known
from noctile.pipeline.spatial.measures import SPATIAL_VERSION
from noctile.workflows.commands.verify_faults import (
    DELETE,
    RUN_AGAIN,
    Fault,
    UnreadableFileError,
    file_fault,
    reading,
    segment_again,
)
from noctile.workflows.commands.verify_masks import MaskRecount
from noctile.workflows.commands.verify_tables import Row, check_row
from noctile.workflows.jobs.regions import region_figures
from noctile.workflows.jobs.worker import load_picture, read_plan
from noctile.workflows.results.checksums import kept_files, read_checksums
from noctile.workflows.results.files import is_temporary, read_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.strange import strange_kind

MAX_RESULT_BYTES = 2**31
"""Largest file of a result that is read (B). The shards of real slides have up to 30 MB."""

_PREVIEW_PX = 2**26
"""Largest preview that is decoded (px)."""


@dataclass(frozen=True, slots=True)
class SlideCheck:
    """Result of the check of one slide.

    Attributes:
        slide_id: id of the slide.
        faults: all faults that were found; empty for an intact slide.
    """

    slide_id: str
    faults: tuple[Fault, ...]


def verify_slide(folder: SlideFolder, row: Row | None) -> SlideCheck:
    """Check one slide that is done.

    The masks are counted again only if their files are intact: the figures of damaged masks would
    only repeat the fault.

    Args:
        folder: folder of the slide.
        row: row of the slide in ``slides.parquet``; None if it has none.
    """
    slide_id = folder.path.name
    if not folder.path.is_dir():
        return SlideCheck(slide_id, (Fault(f"slides/{slide_id}", "is missing", RUN_AGAIN),))
    if strange := list(strange_files(folder)):
        return SlideCheck(slide_id, tuple(strange))
    missing = [path for path in folder.required if not path.exists()]
    if missing:
        faults = [file_fault(folder, path, "is missing") for path in missing]
        return SlideCheck(slide_id, tuple(faults))
    faults = list(_check_files(folder))
    if segment_again(slide_id) not in {fault.remedy for fault in faults}:
        try:
            faults.extend(_check_contents(folder, row))
        except UnreadableFileError as error:
            faults.append(error.fault)
    return SlideCheck(slide_id, tuple(faults))


def strange_files(folder: SlideFolder) -> Iterator[Fault]:
    """Find links, pipes, devices and absurdly large files, which are not read.

    No run makes them. A link may lead out of the folder of results.
    """
    for path in (folder.path, *sorted(folder.path.rglob("*"))):
        what = strange_kind(path)
        if what is None and path.is_file() and path.stat().st_size > MAX_RESULT_BYTES:
            what = f"has more than {MAX_RESULT_BYTES} bytes, which no file of a result has"
        if what is None:
            continue
        yield (
            file_fault(folder, path, what)
            if path != folder.path
            else Fault(f"slides/{path.name}", what, segment_again(path.name))
        )


def _check_files(folder: SlideFolder) -> Iterator[Fault]:
    """Compare the files with the recorded checksums, and find leftovers of killed writers."""
    for path in sorted(folder.path.rglob("*")):
        if path.suffix == PARTIAL or is_temporary(path):
            name = file_fault(folder, path, "").file
            yield Fault(name, "was left by a writer that was killed", DELETE)
    try:
        recorded = read_checksums(folder)
    except StoreError as error:
        yield file_fault(folder, folder.checksums, f"cannot be read: {error}")
        return
    if recorded is None:
        yield file_fault(folder, folder.checksums, "is missing")
        return
    files = kept_files(folder) | {folder.summary.name: folder.summary}
    for name in sorted(recorded.keys() | files.keys()):
        path = folder.path / name
        if name not in files:
            yield file_fault(folder, path, "is missing")
        elif name not in recorded:
            yield file_fault(folder, path, "was not there when the slide was finished")
        elif sha256_of(path) != recorded[name]:
            yield file_fault(folder, path, "is not what was written: its checksum differs")


def _check_contents(folder: SlideFolder, row: Row | None) -> Iterator[Fault]:
    """Compare summary, tile table and row of the cohort's table with the masks.

    Raises:
        UnreadableFileError: if a file cannot be read.
    """
    with reading(folder, folder.plan):
        planned = read_json(folder.plan) or {}
        header = {"key": planned["key"], **planned["slide"]}
        plan, tissue, _ = read_plan(folder)
    with reading(folder, folder.block_stats_file):
        values = read_json(folder.block_stats_file) or {}
        stats = {name: BlockStats.from_json(block) for name, block in values.items()}
    with reading(folder, folder.summary):
        summary = dict(read_json(folder.summary) or {})
    with reading(folder, folder.preview):
        load_picture(folder.preview, "JPEG", _PREVIEW_PX)
    with reading(folder, folder.mask):
        store = MaskStore.open(folder.mask)
        known = confidence_is_known(read_provenance(store.path))
        recount = MaskRecount(store, plan, tissue, confidence_is_known=known)
        for what in (*recount.faults(stats), *check_levels(store)):
            yield file_fault(folder, folder.mask, what)
        figures, tiles = recount.figures()
        regions = region_figures(folder, planned)
    quality = asdict(SlideQuality.from_blocks(stats.values()))
    found = {**header, **figures, **quality, **regions}
    expected = json.loads(json.dumps(found))  # tuples become lists
    if not _has_same_measures(summary):
        del expected["measures"]
    if surplus := {"regions", "roi_area_mm2"} & summary.keys() - expected.keys():
        what = f"has {min(surplus)}, but the slide has no region of interest"
        yield file_fault(folder, folder.summary, what)
    yield from _summary_faults(folder, summary, expected)
    yield from _tile_table_faults(folder, tiles)
    if row is not None:
        yield from check_row(folder.path.name, row, summary | expected, store.layout.classes)


def _has_same_measures(summary: Mapping[str, Any]) -> bool:
    """Tell if a summary has spatial measures of this version; earlier ones are no fault."""
    found = summary.get("measures")
    return isinstance(found, dict) and found.get("version") == SPATIAL_VERSION


def _summary_faults(
    folder: SlideFolder, summary: dict[str, Any], expected: dict[str, Any]
) -> Iterator[Fault]:
    """Figures of the summary that differ from those that the masks give."""
    for name, value in expected.items():
        if name not in summary or summary[name] != value:
            what = f"has {name} = {summary.get(name)}, but the masks give {value}"
            yield file_fault(folder, folder.summary, what)


def _tile_table_faults(folder: SlideFolder, tiles: pa.Table) -> Iterator[Fault]:
    """A tile table that differs from the one that the masks give.

    Raises:
        UnreadableFileError: if the table cannot be read.
    """
    with reading(folder, folder.tiles):
        if not read_parquet(folder.tiles).equals(tiles):
            yield file_fault(folder, folder.tiles, "differs from the tile table of the masks")
