"""Division of a slide's masks into pyramid levels, shards and chunks.

Arithmetic only: no file is read or written. On the first `BLOCK_LEVELS` levels a shard covers one
block, so that the task of a block writes all of them. On the coarser levels a shard has as many
pixels as a block.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import HEAT_FACTOR

BLOCK_LEVELS = 3
"""Number of levels, the finest first, on which a shard holds the labels of one block.

The side of a block is a multiple of 8 px, so its corners are corners of pixels on these levels. To
read a label map again in order to halve it costs as much as halving it
(benchmarks/history/writing.md). The coarser levels are made from the last of these, which has 1/16
of the pixels.
"""

_COARSEST_PX = 512
"""Upper bound of the longest side of the coarsest level (px): a viewer shows it as a thumbnail."""

_THUMBNAIL_CHUNK_PX = 256

MAX_BLOCK_PX, MAX_CHUNKS = 2**15, 2**16
"""Largest side of a block (px), and most chunks of a shard, in masks that are read. The setting
``block_px`` ends at 16384, and a block can be larger by half a tile."""

MAX_SIDE_PX, MAX_THUMBNAIL_PX = 2**22, 2**28
"""Longest side of a label map, and largest thumbnail (px). A slide of 100 mm has 800,000 px of
0.125 um, and a thumbnail of 160 million px of 8 um."""


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """Shape of a Zarr array, of its shards and of its chunks, for the axes y, x or c, y, x.

    Attributes:
        whole: shape of the array.
        shard: shape of a shard, which is one file.
        chunk: shape of a chunk, the part of a shard that is compressed alone.
    """

    whole: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]


@dataclass(frozen=True)
class MaskLayout:
    """Levels, shards and chunks of the label map and the heat maps of one slide.

    Attributes:
        frame: frame of the label map.
        block_px: side of a block (px), a multiple of `HEAT_FACTOR`.
        chunk_px: side of a chunk of the finest level (px), a divisor of the block's side.
        classes: classes of the model.

    Raises:
        ValueError: if the sides of block and chunk do not fit.
    """

    frame: Frame
    block_px: int
    chunk_px: int
    classes: tuple[ClassInfo, ...]

    def __post_init__(self) -> None:
        fits = (
            self.block_px > 0
            and self.chunk_px > 0
            and self.block_px % HEAT_FACTOR == 0
            and self.block_px % self.chunk_px == 0
        )
        if not fits:
            raise ValueError(
                f"block_px ({self.block_px}) must be a multiple of {HEAT_FACTOR} and of chunk_px "
                f"({self.chunk_px})"
            )

    @property
    def levels(self) -> int:
        """Number of pyramid levels."""
        longest, levels = max(self.frame.extent.height, self.frame.extent.width), 1
        while longest > _COARSEST_PX:
            longest, levels = -(-longest // 2), levels + 1
        return levels

    @cached_property
    def level_frames(self) -> tuple[Frame, ...]:
        """Frames of the pyramid levels, finest first; the first is ``frame``."""
        return tuple(self.frame.coarser(2**level) for level in range(self.levels))

    @property
    def heat_frame(self) -> Frame:
        """Frame of the heat maps."""
        return self.frame.coarser(HEAT_FACTOR)

    def shard_px(self, level: int) -> int:
        """Side of a shard of a level (px)."""
        return self.block_px >> level if level < BLOCK_LEVELS else self.block_px

    def label_array(self, level: int) -> ArrayShape:
        """Shape of the array that holds a level of the label map."""
        extent, side = self.level_frames[level].extent, self.shard_px(level)
        chunk = math.gcd(side, self.chunk_px)
        return ArrayShape((extent.height, extent.width), (side, side), (chunk, chunk))

    @property
    def heat_array(self) -> ArrayShape:
        """Shape of the array that holds the two heat maps, tumor probability and confidence."""
        extent, side = self.heat_frame.extent, self.block_px // HEAT_FACTOR
        return ArrayShape((2, extent.height, extent.width), (2, side, side), (1, side, side))

    def shard_box(self, row: int, col: int, level: int = 0) -> Box:
        """Pixels of a shard, cut to the frame of its level; on level 0 the pixels of a block."""
        side = self.shard_px(level)
        return Box(row * side, col * side, side, side).intersect(self.level_frames[level].box)

    def shard_key(self, box: Box, level: int = 0) -> tuple[int, int]:
        """Position (row, col) of the shard that holds the first pixel of a box."""
        side = self.shard_px(level)
        return box.y // side, box.x // side

    def parent_key(self, row: int, col: int, level: int) -> tuple[int, int]:
        """Position (row, col), on the next coarser level, of the shard over a shard of a level."""
        fine, coarse = self.shard_px(level), 2 * self.shard_px(level + 1)
        return row * fine // coarse, col * fine // coarse

    def is_block(self, box: Box) -> bool:
        """Tell if a box is exactly a block of the label map's grid."""
        key = self.shard_key(box)
        return min(key) >= 0 and box.area > 0 and box == self.shard_box(*key)

    def heat_box(self, box: Box) -> Box:
        """Heat-map pixels under a box of the label map.

        Args:
            box: starts on the edge of a heat-map pixel, and ends on one or at the frame's edge.

        Raises:
            ValueError: if the box cuts through heat-map pixels.
        """
        edge = self.frame.extent
        cut_y = box.y % HEAT_FACTOR or (box.y_stop % HEAT_FACTOR and box.y_stop != edge.height)
        cut_x = box.x % HEAT_FACTOR or (box.x_stop % HEAT_FACTOR and box.x_stop != edge.width)
        if cut_y or cut_x:
            raise ValueError(
                f"{box} cuts through heat-map pixels, which are {HEAT_FACTOR} x {HEAT_FACTOR} "
                "pixels of the label map"
            )
        return self.frame.project(box, self.heat_frame)


def thumbnail_array(frame: Frame) -> ArrayShape:
    """Shape of the array that holds a level of the thumbnail, all of it in one shard.

    Args:
        frame: frame of the thumbnail's level.
    """
    height, width, side = frame.extent.height, frame.extent.width, _THUMBNAIL_CHUNK_PX
    shard = (3, -(-height // side) * side, -(-width // side) * side)
    return ArrayShape((3, height, width), shard, (3, side, side))


def layout_to_json(layout: MaskLayout, thumbnail_frame: Frame) -> dict[str, Any]:
    """Convert the layout and the thumbnail's frame to plain values, to be stored with the masks."""
    return {
        "frame": _frame_to_json(layout.frame),
        "overview_frame": _frame_to_json(thumbnail_frame),
        "block_px": layout.block_px,
        "chunk_px": layout.chunk_px,
        "classes": [c.model_dump(mode="json") for c in layout.classes],
    }


def layout_from_json(values: Any) -> tuple[MaskLayout, Frame]:
    """Read the layout and the thumbnail's frame from the values that `layout_to_json` made.

    Raises:
        LookupError: if a value is missing (TypeError or ValueError: if one is not as expected, or
            would ask for far more memory than any slide).
    """
    classes = tuple(ClassInfo.model_validate(c) for c in values["classes"])
    frame = _frame_from_json(values["frame"])
    layout = MaskLayout(frame, values["block_px"], values["chunk_px"], classes)
    thumbnail = _frame_from_json(values["overview_frame"])
    longest = max(frame.extent.height, frame.extent.width)
    chunks = (layout.block_px // layout.chunk_px) ** 2
    if layout.block_px > MAX_BLOCK_PX or chunks > MAX_CHUNKS or longest > MAX_SIDE_PX:
        raise ValueError(f"{frame.extent} in blocks of {layout.block_px} px is no label map")
    if thumbnail.extent.height * thumbnail.extent.width > MAX_THUMBNAIL_PX:
        raise ValueError(f"{thumbnail.extent} is no thumbnail")
    return layout, thumbnail


def _frame_to_json(frame: Frame) -> dict[str, Any]:
    extent = frame.extent
    return {"extent_px": [extent.height, extent.width], "mpp": [frame.mpp_y, frame.mpp_x]}


def _frame_from_json(values: Any) -> Frame:
    return Frame(Extent(*values["extent_px"]), *values["mpp"])
