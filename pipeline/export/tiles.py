"""Label map of a slide as tiles in rows, read in strips of bounded memory."""

from collections.abc import Iterator

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore

_STRIP_TILES = 16
"""Number of tiles that are read together. Chunks of the mask and tiles do not share their edges, so
single tiles would have each chunk decoded several times."""


def label_tiles(store: MaskStore, level: int, side_px: int) -> Iterator[tuple[Box, UInt8]]:
    """Read a level of the label map tile by tile, row by row, each row from left to right.

    At most 16 tiles are held in memory, and the chunks under them.

    Args:
        store: masks of the slide.
        level: pyramid level.
        side_px: side of a tile (px).

    Yields:
        the part of the level that a tile covers, and the tile: uint8 ``[side_px, side_px]``,
        with 0 outside the level.

    Raises:
        StoreError: if the masks cannot be read.
    """
    frame = store.layout.level_frames[level]
    width_px = side_px * _STRIP_TILES
    for y in range(0, frame.extent.height, side_px):
        for x in range(0, frame.extent.width, width_px):
            strip = Box(y, x, side_px, width_px).intersect(frame.box)
            labels = store.read(strip, level)
            for left in range(0, strip.width, side_px):
                yield _tile(strip, labels, left, side_px)


def _tile(strip: Box, labels: UInt8, left: int, side_px: int) -> tuple[Box, UInt8]:
    """Cut a tile out of a strip, and pad it with 0."""
    part = labels[:, left : left + side_px]
    box = Box(strip.y, strip.x + left, *part.shape)
    if part.shape == (side_px, side_px):
        return box, np.ascontiguousarray(part)
    tile = np.zeros((side_px, side_px), np.uint8)
    tile[: box.height, : box.width] = part
    return box, tile


def tile_count(store: MaskStore, level: int, side_px: int) -> int:
    """Number of tiles of a level of the label map."""
    extent = store.layout.level_frames[level].extent
    return -(-extent.height // side_px) * -(-extent.width // side_px)
