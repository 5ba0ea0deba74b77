"""Coarser levels of a label map: each pixel takes the label that most of the 2 x 2 finer pixels under it have."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.masks.store import MaskStore

UInt8 = npt.NDArray[np.uint8]

Visitor = Callable[[tuple[int, int], UInt8], None]
"""Sees (row, col) of a block of level 0 and its labels, uint8 ``[h, w]``; called from several threads."""


def build_pyramid(store: MaskStore, visit: Visitor | None = None, threads: int = 1) -> None:
    """Fill the levels above 0 from what stands in level 0, block by block; only where there are labels.

    Holds a few blocks at a time for each thread, whatever the slide's size. All blocks must have been written, and
    nobody may be writing. Twice is as good as once.

    Args:
        store: of the slide.
        visit: sees each block of level 0 that has a label, since it is read here anyway.
        threads: blocks at once.

    Raises:
        StoreError: if the masks cannot be read or written, or a shard is damaged.
    """
    store.settle()
    with ThreadPoolExecutor(threads, "pyramid") as pool:
        for level in range(1, store.layout.levels):
            families: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for row, col in store.stored_blocks(level - 1):
                families.setdefault((row // 2, col // 2), []).append((row, col))
            coarsen = partial(_coarsen, store, level, visit if level == 1 else None)
            list(pool.map(coarsen, families, families.values()))
    if visit and store.layout.levels == 1:
        for row, col in store.stored_blocks():
            visit((row, col), store.read(store.layout.block(row, col)))


def _coarsen(
    store: MaskStore, level: int, visit: Visitor | None, parent: tuple[int, int], children: list[tuple[int, int]]
) -> None:
    """Write one block of a level, from the blocks of the finer level that lie under it."""
    box = store.layout.block(*parent, level)
    labels = np.zeros((box.height, box.width), np.uint8)
    for child in children:
        fine = store.layout.block(*child, level - 1)
        pixels = store.read(fine, level - 1)
        if visit:
            visit(child, pixels)
        part = Box(fine.y // 2, fine.x // 2, -(-fine.height // 2), -(-fine.width // 2))
        labels[part.slices(box)] = halve_labels(pixels)
    store.write_labels(box, labels, level)


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
    even = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge") if height % 2 or width % 2 else labels
    pairs = np.ascontiguousarray(even).view(np.uint16)
    top, bottom = pairs[::2], pairs[1::2]
    most = top.astype(np.uint8)
    mixed = (top != bottom) | (top >> 8 != most)  # most places have one label, and need no vote
    if mixed.any():
        upper, lower = top[mixed], bottom[mixed]
        most[mixed] = _vote(*(half.astype(np.uint8) for pair in (upper, lower) for half in (pair, pair >> 8)))
    return most


def _vote(*labels: UInt8) -> UInt8:
    """The most frequent of four labels, elementwise."""
    one = np.uint8(1)  # uint8 wraps: 0 - 1 is 255, the last in any tie
    a, b, c, d = _sorted(*(values - one for values in labels))
    most = a.copy()
    np.copyto(most, c, where=(c == d) & (a != b))
    np.copyto(most, b, where=b == c)
    return most + one


def _sorted(a: UInt8, b: UInt8, c: UInt8, d: UInt8) -> tuple[UInt8, UInt8, UInt8, UInt8]:
    """Four arrays, elementwise in ascending order: the network of five comparisons (Knuth, TAOCP 3, 5.3.4)."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    return a, b, c, d
