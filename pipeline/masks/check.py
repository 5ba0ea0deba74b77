"""Masks against themselves: does every level decode, and follow from the finer one?"""

from collections.abc import Iterator

import numpy as np

from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.downsample import halve_image, halve_labels
from noctile.pipeline.masks.store import MaskStore


def check_levels(store: MaskStore) -> Iterator[str]:
    """Say what of the coarser levels of labels and overview is not what the finer level makes of
    it.

    Holds four blocks at a time. Reads nothing of labels' level 0 but what level 1 follows from.

    Raises:
        StoreError: if something cannot be decoded.
    """
    for level in range(1, store.layout.levels):
        below = {store.layout.parent(*key, level - 1) for key in store.stored_blocks(level - 1)}
        for row, col in sorted(below | set(store.stored_blocks(level))):
            box = store.layout.block(row, col, level)
            if not box.area:
                yield f"has a block {row}, {col} on level {level}, where its labels have ended"
                continue
            edge = store.layout.level_frames[level - 1].box
            fine = Box(2 * box.y, 2 * box.x, 2 * box.height, 2 * box.width).intersect(edge)
            if not np.array_equal(
                store.read(box, level), halve_labels(store.read(fine, level - 1))
            ):
                yield f"has a block {row}, {col} on level {level} that does not follow from level {level - 1}"
    finer = store.read_thumbnail()
    for level in range(1, store.layout.levels):
        coarser = store.read_thumbnail(level)
        if not np.array_equal(coarser, halve_image(finer)):
            yield f"has an overview whose level {level} does not follow from level {level - 1}"
        finer = coarser
