"""Coarse pyramid levels of a label map, on which a shard covers several blocks.

The task of each block writes the finer levels: `noctile.pipeline.masks.store.MaskStore.write`.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.downsample import halve_labels
from noctile.pipeline.masks.layout import BLOCK_LEVELS
from noctile.pipeline.masks.store import MaskStore


def build_pyramid(store: MaskStore, threads: int = 1) -> list[Path]:
    """Write the levels from `BLOCK_LEVELS` on, shard by shard, where there are labels.

    Each thread holds a few shards in memory, for a slide of any size. All blocks must have been
    written, and no block may be written meanwhile. A second call writes the same files again.

    Args:
        store: masks of the slide.
        threads: number of shards that are made at the same time.

    Returns:
        the files of the shards, whose content is on the disk, and whose names may not be.

    Raises:
        StoreError: if the masks cannot be read or written, or a shard is damaged.
    """
    store.clean_up()
    with ThreadPoolExecutor(threads, "pyramid") as pool:
        for level in range(BLOCK_LEVELS, store.layout.levels):
            children: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for key in store.stored_shards(level - 1):
                children.setdefault(store.layout.parent_key(*key, level - 1), []).append(key)
            list(pool.map(partial(_write_shard, store, level), children, children.values()))
    levels = range(BLOCK_LEVELS, store.layout.levels)
    return [store.shard_path(key, n) for n in levels for key in store.stored_shards(n)]


def _write_shard(
    store: MaskStore, level: int, key: tuple[int, int], children: list[tuple[int, int]]
) -> None:
    """Write one shard of a level, made from the shards of the finer level that lie under it."""
    box = store.layout.shard_box(*key, level)
    labels = np.zeros((box.height, box.width), np.uint8)
    for child in children:
        fine = store.layout.shard_box(*child, level - 1)
        part = Box(fine.y // 2, fine.x // 2, -(-fine.height // 2), -(-fine.width // 2))
        labels[part.slices(box)] = halve_labels(store.read(fine, level - 1))
    store.write_labels(box, labels, level)
