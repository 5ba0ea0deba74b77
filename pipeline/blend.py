"""Tiles of one block joined into one label map, on whichever device the probabilities live.

Written once against the array API, so that the same lines run in numpy and in torch. Only ``uint8`` leaves the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.plan import HEAT_FACTOR, TileGrid, Window

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """What one task makes.

    Attributes:
        box: the block's pixels in the label map.
        labels: uint8 ``[h, w]``, class codes, 0 outside tissue.
        heat: uint8 ``[ceil(h / 8), ceil(w / 8)]``, mean tumor probability x 255 of the tissue pixels under each cell.
        confidence: like ``heat``, for the probability of the winning class.
    """

    box: Box
    labels: UInt8
    heat: UInt8
    confidence: UInt8


def window_weights(window: Window, grid: TileGrid) -> Float32:
    """Weight of each pixel of a tile, float32 ``[tile_px, tile_px]``.

    ``crop``: 1 on the core, 0 on the margins. ``blend``: the Hann window ``sin^2(pi (i + 1/2) / tile_px)`` along each
    axis, positive everywhere, so that a pixel that a single tile covers is that tile's.
    """
    along = np.zeros(grid.tile_px)
    if window == "crop":
        along[grid.margin_px : grid.margin_px + grid.stride_px] = 1
    else:
        along = np.sin(np.pi * (np.arange(grid.tile_px) + 0.5) / grid.tile_px) ** 2
    return (along[:, None] * along[None, :]).astype(np.float32)


class Canvas:
    """Joins the tiles of one block: sums of weighted probabilities, divided by the sum of the weights.

    Tiles are added row of tiles by row of tiles. A row of pixels is decided as soon as no later tile can reach it, so
    the float sums are one tile high and as wide as the block, never the whole block; with ``crop``, where every pixel
    has one tile, there are none. The result does not depend on the block: each pixel sees its tiles in one order.

    Args:
        box: the block's pixels.
        grid: the tiles' grid.
        window: how tiles are joined.
        codes: label value of each channel.
        tumor_channels: channels whose probabilities add up to the tumor's.
    """

    def __init__(
        self, box: Box, grid: TileGrid, window: Window, codes: Sequence[int], tumor_channels: Sequence[int]
    ) -> None:
        self._box, self._grid, self._window = box, grid, window
        self._codes, self._tumor = codes, list(tumor_channels)
        self._xp: Any = None  # namespace, arrays and device come with the first tile
        self._labels: Any = None
        self._maps: Any = None
        self._top = box.y  # rows above are decided
        self._sums: Any = None
        self._totals: Any = None

    def add(self, row: int, col: int, probabilities: Any) -> None:
        """Add the tile at a grid position.

        Args:
            row: of the tile; never smaller than that of the tile before.
            col: of the tile.
            probabilities: float32 ``[c, tile_px, tile_px]``.

        Raises:
            ValueError: if the tile comes too late: rows that it covers are decided.
        """
        if self._xp is None:
            self._start(probabilities)
        tile = self._grid.tile(row, col)
        part = self._grid.reach(row, col, self._window).intersect(self._box)
        inner = (slice(None), *part.slices(tile))
        if self._window == "crop":
            self._decide(part, probabilities[inner], None)
            return
        if part.y < self._top:
            raise ValueError(f"tile ({row}, {col}) was added after rows that it covers were decided")
        self._flush(part.y)
        band = Box(self._top, self._box.x, self._grid.tile_px, self._box.width)
        outer = part.slices(band)
        weights = self._weights[part.slices(tile)]
        self._sums[(slice(None), *outer)] += probabilities[inner] * weights
        self._totals[outer] += weights

    def finish(self, tissue: npt.NDArray[np.bool_]) -> BlockMask:
        """The block's labels and maps; pixels that are not tissue are 0 everywhere.

        Args:
            tissue: bool ``[box.height, box.width]``; each of its pixels must lie under a tile.
        """
        if self._xp is None:
            raise ValueError("a block without tiles is never a task")
        if self._window == "blend":
            self._flush(self._box.y_stop)
        xp = self._xp
        inside = xp.asarray(tissue, device=array_api_compat.device(self._labels))
        labels = self._labels * xp.astype(inside, xp.uint8)
        cover = xp.astype(inside, xp.float32)
        count = pool_sums(xp, cover)
        cells = xp.where(count > 0, count, 1.0)
        heat, confidence = (xp.floor(pool_sums(xp, q * cover) / cells + 0.5) for q in self._maps)
        return BlockMask(self._box, _to_host(labels), *(_to_host(xp.astype(m, xp.uint8)) for m in (heat, confidence)))

    def _start(self, first: Any) -> None:
        xp = self._xp = array_api_compat.array_namespace(first)
        device = array_api_compat.device(first)
        shape = (self._box.height, self._box.width)
        self._labels = xp.zeros(shape, dtype=xp.uint8, device=device)
        self._maps = tuple(xp.zeros(shape, dtype=xp.uint8, device=device) for _ in range(2))
        self._lut = xp.asarray(np.asarray(self._codes, np.uint8), device=device)
        if self._window == "blend":
            self._weights = xp.asarray(window_weights("blend", self._grid), device=device)
            height = self._grid.tile_px
            self._sums = xp.zeros((len(self._codes), height, shape[1]), dtype=xp.float32, device=device)
            self._totals = xp.zeros((height, shape[1]), dtype=xp.float32, device=device)

    def _flush(self, y: int) -> None:
        """Decide the rows above ``y`` and move the band down to it."""
        n = min(y - self._top, self._grid.tile_px)
        if n <= 0:
            return
        rows = Box(self._top, self._box.x, min(n, self._box.y_stop - self._top), self._box.width)
        self._decide(rows, self._sums[:, : rows.height], self._totals[: rows.height])
        xp = self._xp
        self._sums = xp.concat((self._sums[:, n:], xp.zeros_like(self._sums[:, :n])), axis=1)
        self._totals = xp.concat((self._totals[n:], xp.zeros_like(self._totals[:n])), axis=0)
        self._top = y

    def _decide(self, part: Box, sums: Any, totals: Any) -> None:
        """Write labels and quantised maps of ``part``; ``totals`` is None where every weight is 1."""
        xp, where = self._xp, part.slices(self._box)
        best, labels = sums[0], xp.zeros_like(sums[0], dtype=xp.uint8) + self._lut[0]
        for k in range(1, len(self._codes)):  # as argmax, the first of equals wins; many times faster across channels
            labels = xp.where(sums[k] > best, self._lut[k], labels)
            best = xp.maximum(best, sums[k])
        tumor = xp.zeros_like(best)
        for k in self._tumor:
            tumor = tumor + sums[k]
        if totals is not None:
            safe = xp.where(totals > 0, totals, 1.0)
            best, tumor = best / safe, tumor / safe
        self._labels[where] = labels
        for q, p in zip(self._maps, (tumor, best), strict=True):
            q[where] = xp.astype(xp.clip(xp.round(p * 255), 0, 255), xp.uint8)


def pool_sums(xp: Any, values: Any) -> Any:
    """Sums over cells of 8 x 8, edges rounded up; exact for whole numbers up to 255, in any order of addition.

    Args:
        xp: array namespace.
        values: float32 ``[h, w]``.

    Returns:
        float32 ``[ceil(h / 8), ceil(w / 8)]``.
    """
    height, width = values.shape
    rows, cols = -(-height // HEAT_FACTOR), -(-width // HEAT_FACTOR)
    device = array_api_compat.device(values)
    if (rows * HEAT_FACTOR, cols * HEAT_FACTOR) != (height, width):
        whole = xp.zeros((rows * HEAT_FACTOR, cols * HEAT_FACTOR), dtype=xp.float32, device=device)
        whole[:height, :width] = values
        values = whole
    ones = xp.ones(HEAT_FACTOR, dtype=xp.float32, device=device)
    along_x = xp.reshape(values, (rows * HEAT_FACTOR * cols, HEAT_FACTOR)) @ ones  # many times faster than a sum of 8
    return xp.sum(xp.reshape(along_x, (rows, HEAT_FACTOR, cols)), axis=1)


def _to_host(values: Any) -> UInt8:
    """A numpy array of a device array."""
    return np.asarray(array_api_compat.to_device(values, "cpu"))
