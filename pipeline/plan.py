"""Where a slide is looked at: tiles on a grid, grouped in blocks, each block one task and one Zarr
shard.

The grid starts at minus the margin, so that the *cores* of the tiles (what the window ``crop``
keeps) tile the plane from the frame's corner. A block is a whole number of cores, so with ``crop``
no tile is ever predicted twice.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.tissue import TissueMask

Window = Literal["crop", "blend"]
"""How tiles are joined: each keeps its core (``crop``), or they fade into each other with Hann
weights (``blend``)."""

HEAT_FACTOR = 8
"""Label-map pixels per heat-map pixel along each axis."""

_CHUNK_PX = 1024
"""Upper bound of a chunk's side inside a shard (px): what a viewer fetches at once."""

_HOST_BYTES_PER_PX = 8
"""Block-sized arrays alive at once: labels, tissue, two quantised maps, and the temporaries of
pooling (B/px)."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Overlapping square tiles over a raster; arithmetic only.

    Attributes:
        tile_px: side of a tile (px).
        overlap_px: how far neighbours overlap (px); ``tile_px - overlap_px`` is a multiple of
            `HEAT_FACTOR`.
        extent: the raster (px).

    Raises:
        UsageError: if the overlap does not fit the tile.
    """

    tile_px: int
    overlap_px: int
    extent: Extent

    def __post_init__(self) -> None:
        if (
            not 0 <= self.overlap_px < self.tile_px
            or self.overlap_px % 2
            or self.stride_px % HEAT_FACTOR
        ):
            raise UsageError(
                f"overlap_px is {self.overlap_px}, but must be even, smaller than the tile ({self.tile_px} px), and "
                f"leave a stride that is a multiple of {HEAT_FACTOR}; choose {self.tile_px // 8} for instance"
            )

    @property
    def stride_px(self) -> int:
        """Distance between neighbouring tiles (px)."""
        return self.tile_px - self.overlap_px

    @property
    def margin_px(self) -> int:
        """How far a tile reaches beyond its core on each side (px)."""
        return self.overlap_px // 2

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of tiles."""
        return math.ceil(self.extent.height / self.stride_px), math.ceil(
            self.extent.width / self.stride_px
        )

    def tile(self, row: int, col: int) -> Box:
        """The pixels that the model sees; may reach outside the raster."""
        return self.core(row, col).grow(self.margin_px)

    def core(self, row: int, col: int) -> Box:
        """The tile without its margins. Cores tile the plane; the last ones may reach outside the
        raster.
        """
        return Box(row * self.stride_px, col * self.stride_px, self.stride_px, self.stride_px)

    def reach(self, row: int, col: int, window: Window) -> Box:
        """Where a tile has any weight: its core with ``crop``, all of it with ``blend``."""
        return self.core(row, col) if window == "crop" else self.tile(row, col)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the label map that one task owns.

    Attributes:
        row: of the block in the grid of blocks.
        col: likewise.
        box: its pixels, cut to the frame.
        tiles: grid positions (row, col) of the tiles that it needs, sorted; never empty.
    """

    row: int
    col: int
    box: Box
    tiles: tuple[tuple[int, int], ...]

    @property
    def key(self) -> tuple[int, int]:
        """Names the block within its slide."""
        return self.row, self.col


@dataclass(frozen=True)
class TilePlan:
    """What will be predicted of a slide, and what that costs, before a pixel is read.

    Attributes:
        slide_id: of the slide.
        mpp: the pixel size to ask the reader for (um); ``frame`` is what it answers with.
        frame: of the label map.
        grid: the tiles.
        window: how they are joined.
        block_px: side of a whole block (px), a whole number of strides.
        n_classes: channels of the model.
        blocks: those with tissue, sorted.
    """

    slide_id: str
    mpp: float
    frame: Frame
    grid: TileGrid
    window: Window
    block_px: int
    n_classes: int
    blocks: tuple[Block, ...]

    @cached_property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Grid positions of all tiles that are predicted, sorted, each once."""
        return tuple(sorted({tile for block in self.blocks for tile in block.tiles}))

    @property
    def predictions(self) -> int:
        """Tiles that pass through the model; with ``blend`` more than ``tiles``: blocks share those
        at their edges.
        """
        return sum(len(block.tiles) for block in self.blocks)

    @property
    def chunk_px(self) -> int:
        """Side of a chunk inside a shard (px): the largest divisor of the block that a viewer likes
        to fetch.
        """
        return next(
            side
            for side in range(min(_CHUNK_PX, self.block_px), 0, -1)
            if self.block_px % side == 0
        )

    @property
    def disk_bytes(self) -> int:
        """Upper bound of the mask's size on disk (B): labels, their pyramid (a third more) and two
        maps at 1/8.
        """
        pixels = sum(block.box.area for block in self.blocks)
        return pixels * 4 // 3 + 2 * pixels // HEAT_FACTOR**2

    def peak_bytes(self, batch_size: int) -> int:
        """Upper bound of what a task holds at once beside the model (B): block arrays, sums, a
        strip and a batch.
        """
        tile_bytes = self.grid.tile_px**2 * (3 + 3 * 4 * self.n_classes)
        sums = (
            4 * (self.n_classes + 1) * self.grid.tile_px * self.block_px
            if self.window == "blend"
            else 0
        )
        return self.block_px**2 * _HOST_BYTES_PER_PX + sums + batch_size * tile_bytes

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of everything in the plan."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def block(self, key: tuple[int, int]) -> Block:
        """The block at (row, col).

        Raises:
            KeyError: if no tissue is there.
        """
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[tuple[int, int], Block]:
        return {block.key: block for block in self.blocks}

    def to_json(self) -> dict[str, Any]:
        """Plain values; tiles as runs ``[row, first column, column after the last]``."""
        return {
            "slide_id": self.slide_id,
            "mpp": self.mpp,
            "frame": asdict(self.frame),
            "tile_px": self.grid.tile_px,
            "overlap_px": self.grid.overlap_px,
            "window": self.window,
            "block_px": self.block_px,
            "n_classes": self.n_classes,
            "blocks": [
                {"row": b.row, "col": b.col, "tiles": list(_runs(b.tiles))} for b in self.blocks
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TilePlan":
        """The plan that `to_json` wrote."""
        frame = Frame(
            Extent(**data["frame"]["extent"]), data["frame"]["mpp_y"], data["frame"]["mpp_x"]
        )
        side = data["block_px"]
        blocks = tuple(
            Block(
                b["row"],
                b["col"],
                _block_box(b["row"], b["col"], side, frame),
                tuple((row, col) for row, start, stop in b["tiles"] for col in range(start, stop)),
            )
            for b in data["blocks"]
        )
        grid = TileGrid(data["tile_px"], data["overlap_px"], frame.extent)
        return cls(
            data["slide_id"],
            data["mpp"],
            frame,
            grid,
            data["window"],
            side,
            data["n_classes"],
            blocks,
        )


@dataclass(frozen=True, slots=True)
class Tiling:
    """How slides are cut: what the model's card says, unless the run's settings say otherwise.

    Attributes:
        mpp: pixel size (um).
        tile_px: side of a tile (px).
        overlap_px: overlap of neighbours (px).
        window: how tiles are joined.
        block_px: wanted side of a block (px); the nearest whole number of strides is used.
        n_classes: channels of the model.
    """

    mpp: float
    tile_px: int
    overlap_px: int
    window: Window
    block_px: int
    n_classes: int


def plan_tiles(slide_id: str, native: Frame, tissue: TissueMask, tiling: Tiling) -> TilePlan:
    """Lay the grid over a slide and keep what touches tissue.

    Args:
        slide_id: of the slide.
        native: the slide's level 0.
        tissue: where there is tissue; a label-map pixel belongs to tissue if its centre does.
        tiling: how to cut.

    Raises:
        UsageError: if tile and overlap do not fit together.
    """
    frame = native.at(tiling.mpp)
    grid = TileGrid(tiling.tile_px, tiling.overlap_px, frame.extent)
    n_cores = max(1, round(tiling.block_px / grid.stride_px))
    side = n_cores * grid.stride_px
    touches = _TissueTest(tissue, frame)
    n_rows, n_cols = grid.shape
    blocks = []
    for row in range(math.ceil(n_rows / n_cores)):
        for col in range(math.ceil(n_cols / n_cores)):
            box = _block_box(row, col, side, frame)
            if touches([box], [box]).any():
                rows, cols = _near(grid, tiling.window, row * n_cores, col * n_cores, n_cores)
                down = [grid.reach(k, cols.start, tiling.window).intersect(box) for k in rows]
                across = [grid.reach(rows.start, k, tiling.window).intersect(box) for k in cols]
                tiles = tuple(
                    (rows[i], cols[k]) for i, k in np.argwhere(touches(down, across)).tolist()
                )
                blocks.append(Block(row, col, box, tiles))
    return TilePlan(
        slide_id, tiling.mpp, frame, grid, tiling.window, side, tiling.n_classes, tuple(blocks)
    )


def heat_slice(pixels: slice) -> slice:
    """The heat-map pixels under a run of label-map pixels that starts on the edge of one."""
    return slice(pixels.start // HEAT_FACTOR, -(-pixels.stop // HEAT_FACTOR))


def _block_box(row: int, col: int, side: int, frame: Frame) -> Box:
    return Box(row * side, col * side, side, side).intersect(frame.box)


def _near(grid: TileGrid, window: Window, row: int, col: int, n_cores: int) -> tuple[range, range]:
    """Rows and columns of the grid whose tiles' reach may touch the block whose first core is (row,
    col).
    """
    n_rows, n_cols = grid.shape
    ring = 0 if window == "crop" else math.ceil(grid.margin_px / grid.stride_px)
    rows = range(max(0, row - ring), min(n_rows, row + n_cores + ring))
    return rows, range(max(0, col - ring), min(n_cols, col + n_cores + ring))


def _runs(tiles: tuple[tuple[int, int], ...]) -> Iterator[list[int]]:
    """Sorted grid positions as runs ``[row, start, stop]``."""
    start = 0
    for i in range(1, len(tiles) + 1):
        if i == len(tiles) or tiles[i] != (tiles[i - 1][0], tiles[i - 1][1] + 1):
            yield [tiles[start][0], tiles[start][1], tiles[i - 1][1] + 1]
            start = i


class _TissueTest:
    """Whether boxes of ``frame`` have tissue, by an integral image of the mask; exact where that is
    the coarser one.
    """

    def __init__(self, tissue: TissueMask, frame: Frame) -> None:
        height, width = tissue.mask.shape
        self._sums: npt.NDArray[np.int64] = np.zeros((height + 1, width + 1), np.int64)
        np.cumsum(np.cumsum(tissue.mask, axis=0, dtype=np.int64), axis=1, out=self._sums[1:, 1:])
        self._ratio_y, self._ratio_x = (
            frame.mpp_y / tissue.frame.mpp_y,
            frame.mpp_x / tissue.frame.mpp_x,
        )
        self._extent = frame.extent

    def __call__(self, down: Sequence[Box], across: Sequence[Box]) -> npt.NDArray[np.bool_]:
        """Of all boxes that have the rows of one and the columns of another.

        Args:
            down: whose rows.
            across: whose columns.

        Returns:
            bool ``[len(down), len(across)]``.
        """
        n_y, n_x = self._sums.shape
        y, y_stop = _under(
            [(b.y, b.y_stop) for b in down], self._extent.height, self._ratio_y, n_y - 1
        )
        x, x_stop = _under(
            [(b.x, b.x_stop) for b in across], self._extent.width, self._ratio_x, n_x - 1
        )
        upper, lower = self._sums[y], self._sums[y_stop]
        return np.asarray(lower[:, x_stop] - lower[:, x] - upper[:, x_stop] + upper[:, x] > 0)


def _under(
    runs: Sequence[tuple[int, int]], end: int, ratio: float, mask_end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First pixels, and those after the last, of a mask under runs of pixels, which are cut at 0
    and ``end``.
    """
    start, stop = np.clip(np.array(runs, np.int64), 0, end).T
    first, last = (
        np.minimum(np.floor((at + 0.5) * ratio).astype(np.int64), mask_end)
        for at in (start, stop - 1)
    )
    return first, np.where(start < stop, np.minimum(last + 1, mask_end), first)
