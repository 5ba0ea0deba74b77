"""Coarser levels of a label map: each pixel takes the label that most of the 2 x 2 finer pixels under it have."""

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.masks.store import MaskStore

UInt8 = npt.NDArray[np.uint8]


def build_pyramid(store: MaskStore) -> None:
    """Fill the levels above 0 from what stands in level 0, block by block; only where there are labels.

    Holds a few blocks at a time, whatever the slide's size. All blocks must have been written, and nobody may be
    writing. Twice is as good as once.

    Raises:
        StoreError: if the masks cannot be read or written, or a shard is damaged.
    """
    store.settle()
    for level in range(1, store.layout.levels):
        finer = store.stored_blocks(level - 1)
        for row, col in sorted({(r // 2, c // 2) for r, c in finer}):
            under = [(r, c) for r, c in finer if (r // 2, c // 2) == (row, col)]
            box = store.layout.block(row, col, level)
            store.write_labels(box, _coarser_block(store, level, box, under), level)


def _coarser_block(store: MaskStore, level: int, box: Box, under: list[tuple[int, int]]) -> UInt8:
    """Labels of one block of a level, from the blocks of the finer level that lie under it."""
    labels = np.zeros((box.height, box.width), np.uint8)
    for r, c in under:
        fine = store.layout.block(r, c, level - 1)
        part = Box(fine.y // 2, fine.x // 2, -(-fine.height // 2), -(-fine.width // 2))
        labels[part.slices(box)] = halve_labels(store.read(fine, level - 1))
    return labels


def halve_labels(labels: UInt8) -> UInt8:
    """The most frequent of each 2 x 2 labels.

    Ties go to the smallest code that is not 0, so that what was analysed stays visible and a tumor with the first code
    is not thinned out. At an odd edge only the pixels that exist vote: repeating the edge doubles each of their votes.

    Args:
        labels: uint8 ``[h, w]``.

    Returns:
        uint8 ``[ceil(h / 2), ceil(w / 2)]``.
    """
    height, width = labels.shape
    even = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    one = np.uint8(1)  # uint8 wraps: 0 - 1 is 255, the last in any tie
    a, b, c, d = _sorted(*(even[dy::2, dx::2] - one for dy in (0, 1) for dx in (0, 1)))
    most = a.copy()
    np.copyto(most, c, where=(c == d) & (a != b))
    np.copyto(most, b, where=b == c)
    most += one
    return most


def _sorted(a: UInt8, b: UInt8, c: UInt8, d: UInt8) -> tuple[UInt8, UInt8, UInt8, UInt8]:
    """Four arrays, elementwise in ascending order: the network of five comparisons (Knuth, TAOCP 3, 5.3.4)."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    return a, b, c, d
