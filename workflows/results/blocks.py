"""Blocks of a slide on disk: their statistics and shards, and the check that these are whole.

``blocks/<row>.<col>.json`` holds the statistics of one block, the content key of its slide, and
the size and index checksum of each of its shards. It is written last. A block whose files do not
agree with it is segmented again. ``blocks.json`` gathers the statistics once all blocks are done.
"""

import shutil
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.stitch.block import BlockMask
from noctile.workflows.results.durable import sync_folder, sync_names
from noctile.workflows.results.files import is_temporary, read_whole_json, write_json
from noctile.workflows.results.layout import SlideFolder

Block = tuple[int, int]


def write_block(
    folder: SlideFolder, slide_key: str, block: Block, mask: BlockMask, store: MaskStore
) -> None:
    """Write the shards of a block, then its statistics; they are on the disk afterwards.

    Args:
        folder: staging folder of the slide.
        slide_key: content key of the slide under the model and the settings.
        block: (row, col) of the block.
        mask: content of the block.
        store: masks of the slide, in ``folder``.

    Raises:
        StoreError: if the file system refuses.
    """
    store.write(mask.box, mask.labels, mask.heat, mask.confidence)
    seals = store.block_seals(block)
    path = folder.block_stats(block)
    record = {"key": slide_key, "stats": mask.stats.to_json(), "shards": seals}
    write_json(path, record, compact=True)
    try:
        sync_names([*(folder.path / name for name in seals), path], folder.path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error


def block_faults(folder: SlideFolder, slide_key: str, plan: TilePlan) -> dict[Block, str]:
    """Return what is wrong with each block whose files are missing, torn or of another slide.

    Sizes and indexes of shards are read, and no pixel is decoded.

    Args:
        folder: folder of the slide.
        slide_key: content key of the slide under the model and the settings.
        plan: plan of the slide.

    Raises:
        StoreError: if the masks cannot be opened, or the disk cannot read a file.
    """
    store = MaskStore.open(folder.mask)
    gathered = read_whole_json(folder.block_stats_file) or {}
    faults = {}
    for block in plan.blocks:
        stats = gathered.get(_name(block.key))
        if fault := _block_fault(folder, slide_key, block.key, store, stats):
            faults[block.key] = fault
    return faults


def _block_fault(
    folder: SlideFolder, slide_key: str, block: Block, store: MaskStore, stats: Any
) -> str | None:
    """Return what is wrong with the files of a block.

    Args:
        folder: folder of the slide.
        slide_key: content key of the slide.
        block: (row, col) of the block.
        store: masks of the slide.
        stats: statistics of the block in ``blocks.json``; None if they are not there.
    """
    path = folder.block_stats(block)
    record = read_whole_json(path)
    if record is None and path.exists():
        return f"{path.name} is empty or torn"
    if record is None and stats is None:
        return f"{path.name} is missing"
    if record is not None and record.get("key") != slide_key:
        return f"{path.name} belongs to another slide or another plan"
    try:
        found = store.block_seals(block)
    except StoreError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return str(error.__cause__)
    if record is not None:
        same = record.get("shards") == {name: list(seal) for name, seal in found.items()}
        return None if same else f"its shards are not those that {path.name} names"
    finest = store.shard_path(block, 0)
    return f"{finest} is missing" if stats["analysed_px"] and not finest.exists() else None


def collect_block_stats(folder: SlideFolder, plan: TilePlan) -> dict[Block, BlockStats]:
    """Gather the statistics of all blocks of a plan into one file, and remove the single files.

    Returns:
        the statistics of each block, by its (row, col).

    Raises:
        StoreError: if those of a block are missing, or if a file cannot be read or written.
    """
    before = read_whole_json(folder.block_stats_file) or {}
    written = (path for path in folder.blocks.glob("*.json") if not is_temporary(path))
    records = {path.stem: read_whole_json(path) for path in sorted(written)}
    found = {name: record["stats"] for name, record in records.items() if record}
    names = {_name(block.key): block.key for block in plan.blocks}
    known = {name: found.get(name) or before.get(name) for name in names}
    stats = {
        key: BlockStats.from_json(values) for name, key in names.items() if (values := known[name])
    }
    if len(stats) < len(names):
        missing = sorted(set(names.values()) - stats.keys())
        raise StoreError(
            f"{folder.blocks}: the files of blocks {missing} have gone; delete {folder.path} and "
            "run again"
        )
    write_json(folder.block_stats_file, known, compact=True)
    sync_folder(folder.path)
    shutil.rmtree(folder.blocks, ignore_errors=True)
    return stats


def _name(block: Block) -> str:
    """Name of a block in ``blocks.json``."""
    return f"{block[0]}.{block[1]}"
