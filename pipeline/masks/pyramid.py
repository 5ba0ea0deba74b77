"""The coarser levels of a label map that no block could write alone; see `MaskStore.write` for the
others.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.downsample import halve_labels
from noctile.pipeline.masks.store import OWN_LEVELS, MaskStore


def build_pyramid(store: MaskStore, threads: int = 1) -> None:
    """Fill the levels from `OWN_LEVELS` on, shard by shard; only where there are labels.

    Holds a few shards at a time for each thread, whatever the slide's size. All blocks must have
    been written, and nobody may be writing. Twice is as good as once.

    Args:
        store: of the slide.
        threads: shards at once.

    Raises:
        StoreError: if the masks cannot be read or written, or a shard is damaged.
    """
    store.settle()
    with ThreadPoolExecutor(threads, "pyramid") as pool:
        for level in range(OWN_LEVELS, store.layout.levels):
            families: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for key in store.stored_blocks(level - 1):
                families.setdefault(store.layout.parent(*key, level - 1), []).append(key)
            list(pool.map(partial(_coarsen, store, level), families, families.values()))


def _coarsen(
    store: MaskStore, level: int, parent: tuple[int, int], children: list[tuple[int, int]]
) -> None:
    """Write one shard of a level, from the shards of the finer level that lie under it."""
    box = store.layout.block(*parent, level)
    labels = np.zeros((box.height, box.width), np.uint8)
    for child in children:
        fine = store.layout.block(*child, level - 1)
        part = Box(fine.y // 2, fine.x // 2, -(-fine.height // 2), -(-fine.width // 2))
        labels[part.slices(box)] = halve_labels(store.read(fine, level - 1))
    store.write_labels(box, labels, level)
