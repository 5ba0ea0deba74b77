"""Tiles of one block joined into one label map, on whichever device the probabilities live.

Written once against the array API: the same lines run in numpy on the CPU, whatever the
probabilities are, and in torch on a GPU. Only ``uint8`` leaves the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.pixel_labels import PixelLabels, is_host, labels_from_probabilities
from noctile.pipeline.plan import HEAT_FACTOR, TileGrid, Window, heat_slice
from noctile.pipeline.quality import BlockStats

_SEAM_STEP_PX = 16
"""Every so many pixels along a seam are compared: about the size of a cell, within which tiles
differ together."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """What one task makes.

    Attributes:
        box: the block's pixels in the label map.
        labels: uint8 ``[h, w]``, class codes, 0 outside tissue.
        heat: uint8 ``[ceil(h / 8), ceil(w / 8)]``, mean tumor probability x 255 of the tissue
            pixels under each cell.
        confidence: like ``heat``, for the probability of the winning class.
        analysed: like ``heat``, how many tissue pixels are under each cell, 0..64.
        stats: what to know before trusting them.
    """

    box: Box
    labels: UInt8
    heat: UInt8
    confidence: UInt8
    analysed: UInt8
    stats: BlockStats


def window_weights(window: Window, grid: TileGrid) -> Float32:
    """Weight of each pixel of a tile, float32 ``[tile_px, tile_px]``.

    ``crop``: 1 on the core, 0 on the margins. ``blend``: the Hann window ``sin^2(pi (i + 1/2) /
    tile_px)`` along each axis, positive everywhere, so that a pixel that a single tile covers is
    that tile's.
    """
    along = np.zeros(grid.tile_px)
    if window == "crop":
        along[grid.margin_px : grid.margin_px + grid.stride_px] = 1
    else:
        along = np.sin(np.pi * (np.arange(grid.tile_px) + 0.5) / grid.tile_px) ** 2
    return (along[:, None] * along[None, :]).astype(np.float32)


class Canvas:
    """Joins the tiles of one block: sums of weighted probabilities, divided by the sum of the
    weights.

    Tiles are added row of tiles by row of tiles. A row of pixels is decided as soon as no later
    tile can reach it, so the float sums are one tile high and as wide as the block, never the whole
    block; with ``crop``, where every pixel has one tile, there are none. What is decided is cut to
    the tissue and pooled at once, while it is in the processor's cache: where no tile is, nothing
    is done, and the maps never stand at full size. The result does not depend on the block: each
    pixel sees its tiles in one order.

    Args:
        box: the block's pixels; starts at the corner of a core.
        grid: the tiles' grid.
        window: how tiles are joined.
        codes: label value of each channel.
        tumor_channels: channels whose probabilities add up to the tumor's.
        tissue: bool ``[box.height, box.width]``, taken over; pixels that are not tissue will be 0
            everywhere.
    """

    def __init__(
        self,
        box: Box,
        grid: TileGrid,
        window: Window,
        codes: Sequence[int],
        tumor_channels: Sequence[int],
        tissue: Bool,
    ) -> None:
        self._box, self._grid, self._window = box, grid, window
        self._codes, self._tumor = codes, list(tumor_channels)
        beyond = [-n % grid.stride_px for n in tissue.shape]
        self._tissue = np.pad(tissue, [(0, n) for n in beyond]) if any(beyond) else tissue
        self._whole = Box(
            box.y, box.x, *self._tissue.shape
        )  # cores that the slide's edge cuts are whole here
        self._xp: Any = None  # namespace, arrays and device come with the first tile
        self._labels: Any = None
        self._inside: Any = None
        self._pooled: Any = None
        self._top = box.y  # rows above are decided
        self._sums: Any = None
        self._totals: Any = None
        self._seams = Seams(grid)
        self._lost: Any = False  # whether a pixel of tissue has no answer; on a GPU nobody waits for it before the end

    @staticmethod
    def labelled_part(grid: TileGrid) -> slice:
        """Rows, and columns, of a tile of which ``crop`` needs a decision: its core, and the first
        line behind it.
        """
        start, stop = grid.margin_px, grid.margin_px + grid.stride_px
        return slice(start, stop + 1 if start else stop)

    def add(self, positions: Sequence[tuple[int, int]], probabilities: Any) -> None:
        """Add tiles.

        Args:
            positions: (row, col) of each in the grid; no row is smaller than one before it.
            probabilities: float32 ``[len(positions), c, tile_px, tile_px]``.

        Raises:
            ValueError: if a tile comes too late: rows that it covers are decided.
        """
        if is_host(probabilities):
            probabilities = np.asarray(
                probabilities
            )  # the same memory; many small steps are quicker in numpy
        if self._window == "crop":
            part = self.labelled_part(self._grid)
            self.add_labels(
                positions, labels_from_probabilities(probabilities[:, :, part, part], self._tumor)
            )
            return
        if self._xp is None:
            self._start(probabilities)
        self._seams.add(positions, probabilities)
        for (row, col), p in zip(positions, probabilities, strict=True):
            self._add_faded(row, col, p)

    def add_labels(self, positions: Sequence[tuple[int, int]], decision: PixelLabels) -> None:
        """Add tiles of which each pixel is decided, with ``crop``.

        Args:
            positions: as for `add`.
            decision: on `labelled_part` of each.
        """
        if self._xp is None:
            self._start(decision.label)
        self._seams.add_labels(positions, decision.label)
        core = slice(self._grid.stride_px)
        fields = (
            values[:, core, core]
            for values in (decision.label, decision.tumor, decision.confidence)
        )
        self._settle([self._grid.core(*position) for position in positions], PixelLabels(*fields))

    def leave_out(self, position: tuple[int, int]) -> None:
        """The core of a tile is not analysed, whatever its neighbours say. To be said before any
        tile of a later row.

        Args:
            position: (row, col) of a tile in the grid, whose pixels cannot be read.
        """
        where = self._grid.core(*position).intersect(self._whole).slices(self._whole)
        self._tissue[where] = False
        if self._xp is not None:
            self._inside[where] = 0

    def finish(self) -> BlockMask:
        """The block's labels and maps; nothing can be added afterwards.

        Raises:
            ValueError: if there is tissue, but no tile was added; or if the network answered with
                NaN, as one does in float16 that needs larger numbers than that has.
        """
        if self._xp is None:
            if self._tissue.any():
                raise ValueError(f"{self._box} has tissue, but is without tiles")
            self._start(np.empty(0, np.float32))
        if self._window == "blend":
            self._flush(self._whole.y_stop)
        if bool(self._lost):
            raise ValueError("the network answers with what is not a number (NaN)")
        xp, box = self._xp, self._box
        count, *sums = self._pooled[
            :, : -(-box.height // HEAT_FACTOR), : -(-box.width // HEAT_FACTOR)
        ]
        cells = xp.where(count > 0, count, 1.0)
        heat, confidence = (_to_host(xp.astype(xp.floor(q / cells + 0.5), xp.uint8)) for q in sums)
        analysed = _to_host(xp.astype(count, xp.uint8))
        tissue = self._tissue[: box.height, : box.width]
        stats = BlockStats(int(np.count_nonzero(tissue)), *self._seams.count(tissue, box))
        labels = _to_host(self._labels[: box.height, : box.width])
        return BlockMask(box, labels, heat, confidence, analysed, stats)

    def _start(self, first: Any) -> None:
        xp = self._xp = array_api_compat.array_namespace(first)
        device = array_api_compat.device(first)
        height, width = self._tissue.shape
        self._inside = xp.asarray(self._tissue.view(np.uint8), device=device)
        self._labels = xp.zeros((height, width), dtype=xp.uint8, device=device)
        self._pooled = xp.zeros(
            (3, height // HEAT_FACTOR, width // HEAT_FACTOR), dtype=xp.float32, device=device
        )
        self._lut = xp.asarray(np.asarray(self._codes, np.uint8), device=device)
        if self._window == "blend":
            self._weights = xp.asarray(window_weights("blend", self._grid), device=device)
            band = (
                -(-self._grid.tile_px // HEAT_FACTOR) + 1
            ) * HEAT_FACTOR  # rows are decided by whole cells
            self._sums = xp.zeros((len(self._codes), band, width), dtype=xp.float32, device=device)
            self._totals = xp.zeros((band, width), dtype=xp.float32, device=device)

    def _add_faded(self, row: int, col: int, probabilities: Any) -> None:
        """Add one tile to the sums of the band that it lies in."""
        tile = self._grid.tile(row, col)
        part = tile.intersect(self._box)
        if part.y < self._top:
            raise ValueError(
                f"tile ({row}, {col}) was added after rows that it covers were decided"
            )
        self._flush(part.y)
        band = Box(self._top, self._box.x, *self._totals.shape)
        outer, inner = part.slices(band), part.slices(tile)
        weights = self._weights[inner]
        self._sums[(slice(None), *outer)] += probabilities[(slice(None), *inner)] * weights
        self._totals[outer] += weights

    def _flush(self, y: int) -> None:
        """Decide the rows above ``y`` but for those of a cell that it cuts, and move the band down."""
        top = y - (y - self._box.y) % HEAT_FACTOR
        n = min(top - self._top, len(self._totals))
        if n <= 0:
            return
        rows = Box(
            self._top, self._box.x, min(n, self._whole.y_stop - self._top), self._whole.width
        )
        sums, totals = self._sums[None, :, : rows.height], self._totals[: rows.height]
        self._settle([rows], labels_from_probabilities(sums, self._tumor, totals))
        keep = len(self._totals) - n
        for plane in (
            *self._sums,
            self._totals,
        ):  # one by one: all at once would need a second band
            plane[:keep] = self._xp.asarray(plane[n:], copy=True)
            plane[keep:] = 0
        self._top = top

    def _settle(self, parts: Sequence[Box], decision: PixelLabels) -> None:
        """Write what was decided of parts of the block, all of one size and of whole cells: labels,
        and pooled maps.
        """
        xp, winner = self._xp, decision.label
        places = [part.slices(self._whole) for part in parts]
        inside = xp.stack([self._inside[place] for place in places])
        labels = self._labels_of(winner) * inside
        self._lost = (
            xp.any(decision.confidence < inside) | self._lost
        )  # the winner of 255 classes has a 255th
        maps = xp.stack((inside, decision.tumor * inside, decision.confidence * inside))
        n, height, width = winner.shape
        pooled = pool_sums(xp, xp.reshape(maps, (3 * n * height, width)))
        pooled = xp.reshape(pooled, (3, n, height // HEAT_FACTOR, width // HEAT_FACTOR))
        for k, place in enumerate(places):
            self._labels[place] = labels[k]
            self._pooled[(slice(None), *(heat_slice(pixels) for pixels in place))] = pooled[:, k]

    def _labels_of(self, winner: Any) -> Any:
        """Codes of channels, uint8 like ``winner``."""
        first, xp = self._codes[0], self._xp
        if list(self._codes) == list(range(first, first + len(self._codes))):
            return winner + first  # looking them up takes forty times as long
        index = xp.reshape(
            winner if is_host(winner) else xp.astype(winner, xp.int64), (-1,)
        )  # torch takes no others
        return xp.reshape(xp.take(self._lut, index, axis=0), winner.shape)


class Seams:
    """Whether two tiles that look at the same pixels say the same of them.

    Asked behind each edge between two cores, of some pixels of the first line: the tile before the
    edge sees it in its margin, the tile behind it in its core. Pixels are the same whatever the
    window, so it is the network that differs, by what else it sees: a visible seam, or with
    ``blend`` a fade between two answers.

    Args:
        grid: of the tiles.
    """

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        self._positions: list[tuple[int, int]] = []
        self._lines: list[Any] = []

    def add(self, positions: Sequence[tuple[int, int]], probabilities: Any) -> None:
        """Note what tiles say along their edges; see `Canvas.add`."""
        start, stop = self._grid.margin_px, self._grid.margin_px + self._grid.stride_px
        if start == 0:
            return
        xp = array_api_compat.array_namespace(probabilities)
        core = slice(start, stop, _SEAM_STEP_PX)
        rows = probabilities[:, :, start : stop + 1 : stop - start, core]
        cols = probabilities[:, :, core, start : stop + 1 : stop - start]
        lines = xp.concat((rows, xp.matrix_transpose(cols)), axis=2)
        self._note(positions, xp.astype(xp.argmax(lines, axis=1), xp.uint8))

    def add_labels(self, positions: Sequence[tuple[int, int]], winner: Any) -> None:
        """The same of winning channels; see `Canvas.add_labels`."""
        side = self._grid.stride_px
        if self._grid.margin_px == 0:
            return
        xp = array_api_compat.array_namespace(winner)
        core = slice(0, side, _SEAM_STEP_PX)
        self._note(
            positions,
            xp.concat(
                (winner[:, ::side, core], xp.matrix_transpose(winner[:, core, ::side])), axis=1
            ),
        )

    def _note(self, positions: Sequence[tuple[int, int]], lines: Any) -> None:
        self._positions.extend(positions)
        self._lines.append(lines)  # winning channels: top, below, left, right

    def count(self, tissue: npt.NDArray[np.bool_], box: Box) -> tuple[int, int]:
        """How many tissue pixels of a block were asked for, and of how many the two tiles differ.

        With ``crop`` those along the block's own edges are not among them: the tiles beyond are
        another block's.
        """
        if not self._lines:
            return 0, 0
        xp, side = array_api_compat.array_namespace(self._lines[0]), self._grid.stride_px
        said = dict(zip(self._positions, _to_host(xp.concat(self._lines)), strict=True))
        asked = differing = 0
        for (row, col), (top, _, left, _) in said.items():
            core = self._grid.core(row, col)
            above, beside = said.get((row - 1, col)), said.get((row, col - 1))
            for other, mine, line in (
                (None if above is None else above[1], top, Box(core.y, core.x, 1, side)),
                (None if beside is None else beside[3], left, Box(core.y, core.x, side, 1)),
            ):
                part = line.intersect(box)
                if other is not None and part.area:
                    inside = tissue[part.slices(box)].ravel()[::_SEAM_STEP_PX]
                    n = len(inside)
                    asked += int(np.count_nonzero(inside))
                    differing += int(np.count_nonzero((other[:n] != mine[:n]) & inside))
        return asked, differing


def pool_sums(xp: Any, values: Any) -> Any:
    """Sums over cells of 8 x 8, edges rounded up.

    Args:
        xp: array namespace.
        values: uint8 ``[h, w]``.

    Returns:
        float32 ``[ceil(h / 8), ceil(w / 8)]``; exact.
    """
    height, width = values.shape
    rows, cols = -(-height // HEAT_FACTOR), -(-width // HEAT_FACTOR)
    device = array_api_compat.device(values)
    if (rows * HEAT_FACTOR, cols * HEAT_FACTOR) != (height, width):
        whole = xp.zeros((rows * HEAT_FACTOR, cols * HEAT_FACTOR), dtype=xp.uint8, device=device)
        whole[:height, :width] = values
        values = whole
    along_y = xp.sum(
        xp.reshape(values, (rows, HEAT_FACTOR, cols * HEAT_FACTOR)), axis=1, dtype=xp.int16
    )
    ones = xp.ones(HEAT_FACTOR, dtype=xp.float32, device=device)
    along_x = (
        xp.astype(xp.reshape(along_y, (rows * cols, HEAT_FACTOR)), xp.float32) @ ones
    )  # faster than a sum of 8
    return xp.reshape(along_x, (rows, cols))


def _to_host(values: Any) -> UInt8:
    """A numpy array of a device array."""
    return np.asarray(array_api_compat.to_device(values, "cpu"))
