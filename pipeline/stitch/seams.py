"""Seams: how often two neighbouring tiles label the same pixel differently."""

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Bool
from noctile.pipeline.geometry import Box
from noctile.pipeline.plan import TileGrid

_SEAM_STEP_PX = 16
"""Distance of the pixels that are compared along a seam (px). It is about the size of a cell in
tissue, and tiles differ in whole cells."""


class Seams:
    """Labels of the pixels along the edges between cores, each from the two tiles that see it.

    The pixels lie in the first line behind each edge. The tile before the edge sees them in its
    margin, and the tile behind the edge sees them in its core. The pixels are the same for each
    window, so a difference comes from the network, which sees other surroundings. It is a visible
    seam with ``crop``, and a fade between two labels with ``blend``.

    Args:
        grid: the grid of the tiles.
    """

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        self._positions: list[tuple[int, int]] = []
        self._lines: list[Any] = []  # channels [n, 4, pixels]: top, below, left, right

    def add_probabilities(self, positions: Sequence[tuple[int, int]], probabilities: Any) -> None:
        """Keep the labels along the edges of whole tiles.

        Args:
            positions: (row, col) of each tile in the grid.
            probabilities: float32 ``[len(positions), c, tile_px, tile_px]``.
        """
        start, stop = self._grid.margin_px, self._grid.margin_px + self._grid.stride_px
        if start == 0:
            return
        xp = array_api_compat.array_namespace(probabilities)
        core = slice(start, stop, _SEAM_STEP_PX)
        rows = probabilities[:, :, start : stop + 1 : stop - start, core]
        cols = probabilities[:, :, core, start : stop + 1 : stop - start]
        lines = xp.concat((rows, xp.matrix_transpose(cols)), axis=2)
        self._keep(positions, xp.astype(xp.argmax(lines, axis=1), xp.uint8))

    def add_labels(self, positions: Sequence[tuple[int, int]], label: Any) -> None:
        """Keep the labels along the edges of the labelled parts of tiles.

        Args:
            positions: (row, col) of each tile in the grid.
            label: channel numbers of the part of each tile that
                `noctile.pipeline.stitch.canvas.labelled_part` describes, uint8 ``[n, h, w]``.
        """
        side = self._grid.stride_px
        if self._grid.margin_px == 0:
            return
        xp = array_api_compat.array_namespace(label)
        core = slice(0, side, _SEAM_STEP_PX)
        rows, cols = label[:, ::side, core], xp.matrix_transpose(label[:, core, ::side])
        self._keep(positions, xp.concat((rows, cols), axis=1))

    def count(self, tissue: Bool, box: Box) -> tuple[int, int]:
        """Number of compared tissue pixels of a block, and number of those that differ.

        With ``crop`` the pixels along the edges of the block itself are not compared, because the
        tiles beyond belong to other blocks.

        Args:
            tissue: bool ``[box.height, box.width]``.
            box: position and size of the block in the label map (px).
        """
        if not self._lines:
            return 0, 0
        xp, side = array_api_compat.array_namespace(self._lines[0]), self._grid.stride_px
        lines = np.asarray(array_api_compat.to_device(xp.concat(self._lines), "cpu"))
        tiles = dict(zip(self._positions, lines, strict=True))
        compared = differing = 0
        for (row, col), (top, _, left, _) in tiles.items():
            core = self._grid.core(row, col)
            above, beside = tiles.get((row - 1, col)), tiles.get((row, col - 1))
            for other, own, line in (
                (None if above is None else above[1], top, Box(core.y, core.x, 1, side)),
                (None if beside is None else beside[3], left, Box(core.y, core.x, side, 1)),
            ):
                part = line.intersect(box)
                if other is not None and part.area:
                    inside = tissue[part.slices(box)].ravel()[::_SEAM_STEP_PX]
                    n = len(inside)
                    compared += int(np.count_nonzero(inside))
                    differing += int(np.count_nonzero((other[:n] != own[:n]) & inside))
        return compared, differing

    def _keep(self, positions: Sequence[tuple[int, int]], lines: Any) -> None:
        self._positions.extend(positions)
        self._lines.append(lines)
