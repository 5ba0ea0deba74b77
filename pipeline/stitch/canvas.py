"""A canvas joins the tiles of one block: `CropCanvas` here, `BlendCanvas` for weighted means."""

from collections.abc import Sequence
from typing import Protocol

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.pixel_labels import PixelLabels, tumor_channels
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.pipeline.plan import TileGrid, Window
from noctile.pipeline.stitch.blend import BlendCanvas
from noctile.pipeline.stitch.block import BlockBuilder, BlockMask
from noctile.pipeline.stitch.seams import Seams


class Canvas(Protocol):
    """Predicts the tiles of one block and joins them to its label map.

    The result does not depend on the block, because each pixel gets its tiles in the same order.
    """

    def add(self, positions: Sequence[tuple[int, int]], tiles: UInt8, predict: Predictor) -> None:
        """Predict tiles and add them.

        Args:
            positions: (row, col) of each tile in the grid; rows never decrease, also not from one
                call to the next.
            tiles: uint8 ``[len(positions), tile_px, tile_px, 3]``.
            predict: the model.
        """
        ...

    def leave_out(self, position: tuple[int, int]) -> None:
        """Leave the core of an unreadable tile without labels, also where its neighbours overlap.

        Call it before a tile of a later row is added.

        Args:
            position: (row, col) of the tile in the grid.
        """
        ...

    def finish(self) -> BlockMask:
        """The finished block; nothing can be added afterwards.

        Raises:
            ValueError: if there is tissue, but no tile was added; or if the output of the network
                is NaN in tissue.
        """
        ...


class CropCanvas:
    """Joins the cores of tiles. Each pixel has exactly one tile, so no sums are needed.

    Args:
        box: position and size of the block in the label map (px); its corner is that of a core.
        grid: the grid of the tiles.
        codes: label value of each channel.
        tissue: bool ``[box.height, box.width]``; the canvas may keep and change it. Pixels outside
            tissue become 0 everywhere.
    """

    def __init__(self, box: Box, grid: TileGrid, codes: Sequence[int], tissue: Bool) -> None:
        self._grid = grid
        self._block = BlockBuilder(box, grid.stride_px, codes, tissue)
        self._seams = Seams(grid)

    def add(self, positions: Sequence[tuple[int, int]], tiles: UInt8, predict: Predictor) -> None:
        """Predict tiles and add them, as for `Canvas`."""
        self.add_labels(positions, predict_labels(predict, tiles, labelled_part(self._grid)))

    def add_labels(self, positions: Sequence[tuple[int, int]], labels: PixelLabels) -> None:
        """Add tiles that are predicted already.

        Args:
            positions: (row, col) of each tile in the grid.
            labels: labels of the `labelled_part` of each tile.
        """
        if not self._block.started:
            self._block.start(labels.label)
        self._seams.add_labels(positions, labels.label)
        core = slice(self._grid.stride_px)
        fields = (
            values[:, core, core] for values in (labels.label, labels.tumor, labels.confidence)
        )
        cores = [self._grid.core(*position) for position in positions]
        self._block.write(cores, PixelLabels(*fields))

    def leave_out(self, position: tuple[int, int]) -> None:
        """Leave the core of a tile without labels, as for `Canvas`."""
        self._block.leave_out(self._grid.core(*position))

    def finish(self) -> BlockMask:
        """The finished block, as for `Canvas`."""
        return self._block.finish(self._seams)


def labelled_part(grid: TileGrid) -> slice:
    """Range of rows of a tile that `CropCanvas` needs; the same range is needed of its columns.

    It is the core, and one line behind the core to compare along the seam.
    """
    start, stop = grid.margin_px, grid.margin_px + grid.stride_px
    return slice(start, stop + 1 if start else stop)


def new_canvas(
    window: Window, box: Box, grid: TileGrid, predict: Predictor, tissue: Bool
) -> Canvas:
    """A canvas for a block.

    Args:
        window: ``crop`` for a `CropCanvas`, ``blend`` for a `BlendCanvas`.
        box: position and size of the block in the label map (px); its corner is that of a core.
        grid: the grid of the tiles.
        predict: the model, whose card gives the classes.
        tissue: bool ``[box.height, box.width]``; the canvas may keep and change it.
    """
    codes = [info.code for info in predict.card.classes]
    if window == "crop":
        return CropCanvas(box, grid, codes, tissue)
    return BlendCanvas(box, grid, codes, tumor_channels(predict.card), tissue)
