"""`BlendCanvas`: joins overlapping tiles by a weighted mean of their probabilities."""

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.pixel_labels import is_host, labels_from_probabilities
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.plan import HEAT_FACTOR, TileGrid
from noctile.pipeline.stitch.block import BlockBuilder, BlockMask
from noctile.pipeline.stitch.seams import Seams


def blend_weights(tile_px: int) -> Float32:
    """Weight of each pixel of a tile, float32 ``[tile_px, tile_px]``.

    It is the Hann window ``sin^2(pi (i + 1/2) / tile_px)`` along each axis. It is positive
    everywhere, so a pixel that only one tile covers takes the value of that tile.
    """
    along = np.sin(np.pi * (np.arange(tile_px) + 0.5) / tile_px) ** 2
    weights: Float32 = (along[:, None] * along[None, :]).astype(np.float32)
    return weights


class BlendCanvas:
    """Joins overlapping tiles: sums of weighted probabilities, divided by the sums of the weights.

    Tiles arrive row of tiles by row of tiles. A row of pixels is labelled as soon as no later tile
    can reach it. Therefore the sums form a band that is one tile high and as wide as the block.

    Args:
        box: position and size of the block in the label map (px); its corner is that of a core.
        grid: the grid of the tiles.
        codes: label value of each channel.
        tumor: channels of the tumor classes.
        tissue: bool ``[box.height, box.width]``; the canvas may keep and change it. Pixels outside
            tissue become 0 everywhere.
    """

    def __init__(
        self, box: Box, grid: TileGrid, codes: Sequence[int], tumor: Sequence[int], tissue: Bool
    ) -> None:
        self._grid, self._tumor, self._channels = grid, list(tumor), len(codes)
        self._block = BlockBuilder(box, grid.stride_px, codes, tissue)
        self._seams = Seams(grid)
        self._top = box.y  # first row of the band; the rows above are labelled
        self._xp: Any = None  # array namespace of the device; None before the first tile
        self._sums: Any = None
        self._totals: Any = None

    def add(self, positions: Sequence[tuple[int, int]], tiles: UInt8, predict: Predictor) -> None:
        """Predict tiles and add them, as for `noctile.pipeline.stitch.canvas.Canvas`."""
        self.add_probabilities(positions, predict(tiles))

    def add_probabilities(self, positions: Sequence[tuple[int, int]], probabilities: Any) -> None:
        """Add tiles that are predicted already.

        Args:
            positions: (row, col) of each tile in the grid; rows never decrease.
            probabilities: float32 ``[len(positions), c, tile_px, tile_px]``.

        Raises:
            ValueError: if a tile covers rows that are labelled already.
        """
        if is_host(probabilities):
            # shares the memory; many small steps are faster in numpy
            probabilities = np.asarray(probabilities)
        if not self._block.started:
            self._start(probabilities)
        self._seams.add_probabilities(positions, probabilities)
        for (row, col), p in zip(positions, probabilities, strict=True):
            self._add_tile(row, col, p)

    def leave_out(self, position: tuple[int, int]) -> None:
        """Leave the core of a tile unlabelled, as for `noctile.pipeline.stitch.canvas.Canvas`."""
        self._block.leave_out(self._grid.core(*position))

    def finish(self) -> BlockMask:
        """The finished block, as for `noctile.pipeline.stitch.canvas.Canvas`."""
        if self._block.started:
            self._label_rows_above(self._block.whole.y_stop)
        return self._block.finish(self._seams)

    def _start(self, first: Any) -> None:
        """Allocate the band on the device of the first array that arrives."""
        self._block.start(first)
        xp = self._xp = array_api_compat.array_namespace(first)
        device = array_api_compat.device(first)
        width, tile_px = self._block.whole.width, self._grid.tile_px
        self._weights = xp.asarray(blend_weights(tile_px), device=device)
        rows = (-(-tile_px // HEAT_FACTOR) + 1) * HEAT_FACTOR  # rows are labelled by whole cells
        self._sums = xp.zeros((self._channels, rows, width), dtype=xp.float32, device=device)
        self._totals = xp.zeros((rows, width), dtype=xp.float32, device=device)

    def _add_tile(self, row: int, col: int, probabilities: Any) -> None:
        """Add one tile to the sums of the band."""
        tile, box = self._grid.tile(row, col), self._block.box
        part = tile.intersect(box)
        if part.y < self._top:
            raise ValueError(
                f"tile ({row}, {col}) was added after rows that it covers were labelled"
            )
        self._label_rows_above(part.y)
        band = Box(self._top, box.x, *self._totals.shape)
        outer, inner = part.slices(band), part.slices(tile)
        weights = self._weights[inner]
        self._sums[(slice(None), *outer)] += probabilities[(slice(None), *inner)] * weights
        self._totals[outer] += weights

    def _label_rows_above(self, y: int) -> None:
        """Label the rows of whole cells above ``y``, and move the band down."""
        whole = self._block.whole
        top = y - (y - whole.y) % HEAT_FACTOR
        n = min(top - self._top, len(self._totals))
        if n <= 0:
            return
        rows = Box(self._top, whole.x, min(n, whole.y_stop - self._top), whole.width)
        sums, totals = self._sums[None, :, : rows.height], self._totals[: rows.height]
        self._block.write([rows], labels_from_probabilities(sums, self._tumor, totals))
        kept = len(self._totals) - n
        for plane in (*self._sums, self._totals):  # all at once would need a second band
            plane[:kept] = self._xp.asarray(plane[n:], copy=True)
            plane[kept:] = 0
        self._top = top
