"""Comparison of the pyramid levels of stored masks with each other."""

from collections.abc import Iterator

import numpy as np

from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.downsample import halve_image, halve_labels
from noctile.pipeline.masks.store import MaskStore


def check_levels(store: MaskStore) -> Iterator[str]:
    """Compare each coarser level of label map and thumbnail with the finer level.

    Each difference is yielded as a message without a subject ("has ..."). At most four blocks are
    held in memory at a time. Of the finest level only those shards are read that level 1 needs.

    Raises:
        StoreError: if a shard cannot be decoded.
    """
    for level in range(1, store.layout.levels):
        yield from _check_labels(store, level)
    yield from _check_thumbnail(store)


def _check_labels(store: MaskStore, level: int) -> Iterator[str]:
    layout = store.layout
    needed = {layout.parent_key(*key, level - 1) for key in store.stored_shards(level - 1)}
    for row, col in sorted(needed | set(store.stored_shards(level))):
        box = layout.shard_box(row, col, level)
        if not box.area:
            yield f"has a block {row}, {col} on level {level}, outside its label map"
            continue
        frame = layout.level_frames[level - 1].box
        fine = Box(2 * box.y, 2 * box.x, 2 * box.height, 2 * box.width).intersect(frame)
        halved = halve_labels(store.read(fine, level - 1))
        if not np.array_equal(store.read(box, level), halved):
            yield (
                f"has a block {row}, {col} on level {level} that does not follow from level "
                f"{level - 1}"
            )


def _check_thumbnail(store: MaskStore) -> Iterator[str]:
    finer = store.read_thumbnail()
    for level in range(1, store.layout.levels):
        coarser = store.read_thumbnail(level)
        if not np.array_equal(coarser, halve_image(finer)):
            yield f"has a thumbnail whose level {level} does not follow from level {level - 1}"
        finer = coarser
