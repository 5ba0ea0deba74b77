"""Plan of a slide: tiles on a grid, grouped in blocks.

One task makes one block, and a block is one Zarr shard. A *core* is the part of a tile that the
window ``crop`` keeps. The grid starts at minus the margin, so that the cores cover the slide from
its corner on. A block is a whole number of cores, so with ``crop`` no tile is predicted twice.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.tissue_index import TissueIndex
from noctile.pipeline.tissue_mask import TissueMask

Window = Literal["crop", "blend"]
"""Method that joins tiles: each keeps its core (``crop``), or they fade into each other with Hann
weights (``blend``).
"""

HEAT_FACTOR = 8
"""Number of label-map pixels for each heat-map pixel along each axis."""

_CHUNK_PX = 1024
"""Upper bound of a chunk's side inside a shard (px): a viewer loads a chunk at once."""

_HOST_BYTES_PER_PX = 8
"""Memory of the arrays of one block, for each of its pixels (B/px).

They are labels, tissue, two heat maps, and the temporary arrays of pooling.
"""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Overlapping square tiles over a raster; arithmetic only.

    Attributes:
        tile_px: side of a tile (px).
        overlap_px: overlap of neighbouring tiles (px); ``tile_px - overlap_px`` is a multiple of
            `HEAT_FACTOR`.
        extent: size of the raster (px).

    Raises:
        UsageError: if the overlap does not fit the tile.
    """

    tile_px: int
    overlap_px: int
    extent: Extent

    def __post_init__(self) -> None:
        fits = 0 <= self.overlap_px < self.tile_px and self.overlap_px % 2 == 0
        if not fits or self.stride_px % HEAT_FACTOR:
            raise UsageError(
                f"overlap_px is {self.overlap_px}, but must be even, smaller than the tile "
                f"({self.tile_px} px), and leave a stride that is a multiple of {HEAT_FACTOR}; "
                f"choose {self.tile_px // 8} for instance"
            )

    @property
    def stride_px(self) -> int:
        """Distance between neighbouring tiles (px)."""
        return self.tile_px - self.overlap_px

    @property
    def margin_px(self) -> int:
        """Width of a tile's margin around its core (px)."""
        return self.overlap_px // 2

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of tiles."""
        height, width = self.extent.height, self.extent.width
        return math.ceil(height / self.stride_px), math.ceil(width / self.stride_px)

    def tile(self, row: int, col: int) -> Box:
        """Pixels of a tile, which the model sees; they may lie outside the raster."""
        return self.core(row, col).grow(self.margin_px)

    def core(self, row: int, col: int) -> Box:
        """Pixels of a tile without its margins; those of the last tiles may lie outside the raster.

        Cores do not overlap and leave no gap.
        """
        return Box(row * self.stride_px, col * self.stride_px, self.stride_px, self.stride_px)

    def reach(self, row: int, col: int, window: Window) -> Box:
        """Pixels on which a tile has any weight: its core with ``crop``, all with ``blend``."""
        return self.core(row, col) if window == "crop" else self.tile(row, col)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the label map that one task owns.

    Attributes:
        row: row of the block in the grid of blocks.
        col: column of the block in the grid of blocks.
        box: pixels of the block, cut to the frame.
        tiles: grid positions (row, col) of the tiles that the block needs, sorted; never empty.
    """

    row: int
    col: int
    box: Box
    tiles: tuple[tuple[int, int], ...]

    @property
    def key(self) -> tuple[int, int]:
        """Position (row, col) of the block, which is unique in its slide."""
        return self.row, self.col


@dataclass(frozen=True)
class TilePlan:
    """Blocks and tiles of one slide, with their cost, known before a pixel is read.

    Attributes:
        slide_id: name of the slide.
        mpp: pixel size that is asked of the reader (um); that of ``frame`` is near it.
        frame: frame of the label map.
        grid: grid of tiles.
        window: method that joins the tiles.
        block_px: side of a whole block (px), a whole number of strides.
        n_classes: number of the model's classes.
        blocks: blocks with tissue, sorted by position.
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
        """Number of tiles that pass through the model.

        With ``blend`` this is more than ``tiles``: a tile at the edge of two blocks counts twice.
        """
        return sum(len(block.tiles) for block in self.blocks)

    @property
    def chunk_px(self) -> int:
        """Side of a chunk inside a shard (px): the block's largest divisor up to 1024."""
        sides = range(min(_CHUNK_PX, self.block_px), 0, -1)
        return next(side for side in sides if self.block_px % side == 0)

    @property
    def disk_bytes(self) -> int:
        """Upper bound of the mask's size on disk (B).

        It counts the labels, their pyramid (a third more) and two heat maps at 1/8.
        """
        pixels = sum(block.box.area for block in self.blocks)
        return pixels * 4 // 3 + 2 * pixels // HEAT_FACTOR**2

    def peak_bytes(self, batch_size: int) -> int:
        """Upper bound of a task's memory beside the model (B); see `Tiling.peak_bytes`."""
        tiling = Tiling(
            self.mpp,
            self.grid.tile_px,
            self.grid.overlap_px,
            self.window,
            self.block_px,
            self.n_classes,
        )
        return tiling.peak_bytes(batch_size)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the whole plan, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def block(self, key: tuple[int, int]) -> Block:
        """Return the block at a position (row, col).

        Raises:
            KeyError: if there is no block with tissue.
        """
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[tuple[int, int], Block]:
        return {block.key: block for block in self.blocks}

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values.

        The tiles of a block become runs ``[row, first column, column after the last]``.
        """
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
        """Read the values that `to_json` made."""
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
    """Settings of tiles and blocks, taken from the run's settings or else from the model's card.

    Attributes:
        mpp: pixel size of the label map (um).
        tile_px: side of a tile (px).
        overlap_px: overlap of neighbouring tiles (px).
        window: method that joins the tiles.
        block_px: wanted side of a block (px); the nearest whole number of strides is used.
        n_classes: number of the model's classes.
    """

    mpp: float
    tile_px: int
    overlap_px: int
    window: Window
    block_px: int
    n_classes: int

    @property
    def block_strides(self) -> int:
        """Side of a block in strides of the tiles, the nearest whole number to ``block_px``.

        Raises:
            UsageError: if tile and overlap do not fit together.
        """
        stride_px = TileGrid(self.tile_px, self.overlap_px, Extent(1, 1)).stride_px
        return max(1, round(self.block_px / stride_px))

    def peak_bytes(self, batch_size: int) -> int:
        """Upper bound of a task's memory beside the model (B).

        It counts the arrays of the block, the sums of ``blend``, and a batch of tiles.

        Args:
            batch_size: number of tiles in a batch.

        Raises:
            UsageError: if tile and overlap do not fit together.
        """
        side_px = self.block_strides * (self.tile_px - self.overlap_px)
        tile_bytes = self.tile_px**2 * (3 + 3 * 4 * self.n_classes)
        sums = 4 * (self.n_classes + 1) * self.tile_px * side_px if self.window == "blend" else 0
        return side_px**2 * _HOST_BYTES_PER_PX + sums + batch_size * tile_bytes


def plan_tiles(slide_id: str, native: Frame, tissue: TissueMask, tiling: Tiling) -> TilePlan:
    """Lay the grid over a slide, and keep the blocks and tiles that touch tissue.

    Args:
        slide_id: name of the slide.
        native: frame of the slide's level 0.
        tissue: tissue of the slide; a label-map pixel is tissue if its centre is.
        tiling: settings of tiles and blocks.

    Raises:
        UsageError: if tile and overlap do not fit together.
    """
    frame = native.at(tiling.mpp)
    grid = TileGrid(tiling.tile_px, tiling.overlap_px, frame.extent)
    n_cores = tiling.block_strides
    side = n_cores * grid.stride_px
    touches = TissueIndex(tissue, frame).touches
    n_rows, n_cols = (math.ceil(n / n_cores) for n in grid.shape)
    blocks = []
    for row, col in product(range(n_rows), range(n_cols)):
        box = _block_box(row, col, side, frame)
        if touches([box], [box]).any():
            rows, cols = _near(grid, tiling.window, row * n_cores, col * n_cores, n_cores)
            down = [grid.reach(k, cols.start, tiling.window).intersect(box) for k in rows]
            across = [grid.reach(rows.start, k, tiling.window).intersect(box) for k in cols]
            indices = np.argwhere(touches(down, across)).tolist()
            blocks.append(Block(row, col, box, tuple((rows[i], cols[k]) for i, k in indices)))
    return TilePlan(
        slide_id, tiling.mpp, frame, grid, tiling.window, side, tiling.n_classes, tuple(blocks)
    )


def heat_slice(pixels: slice) -> slice:
    """Return the heat-map pixels under a run of label-map pixels.

    Args:
        pixels: label-map pixels along one axis; starts on the edge of a heat-map pixel.
    """
    return slice(pixels.start // HEAT_FACTOR, -(-pixels.stop // HEAT_FACTOR))


def _block_box(row: int, col: int, side: int, frame: Frame) -> Box:
    return Box(row * side, col * side, side, side).intersect(frame.box)


def _near(grid: TileGrid, window: Window, row: int, col: int, n_cores: int) -> tuple[range, range]:
    """Return the rows and columns of the grid whose tiles may have weight in a block.

    Args:
        grid: grid of tiles.
        window: method that joins the tiles.
        row: row of the block's first core.
        col: column of the block's first core.
        n_cores: number of cores along a side of the block.
    """
    n_rows, n_cols = grid.shape
    ring = 0 if window == "crop" else math.ceil(grid.margin_px / grid.stride_px)
    rows = range(max(0, row - ring), min(n_rows, row + n_cores + ring))
    return rows, range(max(0, col - ring), min(n_cols, col + n_cores + ring))


def _runs(tiles: tuple[tuple[int, int], ...]) -> Iterator[list[int]]:
    """Yield sorted grid positions as runs ``[row, first column, column after the last]``."""
    start = 0
    for i in range(1, len(tiles) + 1):
        if i == len(tiles) or tiles[i] != (tiles[i - 1][0], tiles[i - 1][1] + 1):
            yield [tiles[start][0], tiles[start][1], tiles[i - 1][1] + 1]
            start = i
