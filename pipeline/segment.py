"""One block: read its tiles, predict, join. `segment_block` is the whole product; the rest says where and when."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from pipeline.blend import BlockMask, Canvas
from pipeline.geometry import Box
from pipeline.models.card import Predictor
from pipeline.plan import Block, TilePlan
from pipeline.slides.base import SlideReader
from pipeline.tissue import TissueMask

UInt8 = npt.NDArray[np.uint8]


def segment_block(
    reader: SlideReader, plan: TilePlan, block: Block, tissue: TissueMask, predict: Predictor, batch_size: int
) -> BlockMask:
    """The labels of one block. The answer depends on its arguments alone, not on who computes it or when.

    Args:
        reader: of the slide that was planned.
        plan: of the slide.
        block: one of ``plan.blocks``.
        tissue: what the plan was made from.
        predict: the model.
        batch_size: tiles in a batch; batches are cut from the sorted tiles of the block.

    Raises:
        SlideReadError: if the slide's pixels cannot be decoded.
    """
    classes = predict.card.classes
    tumor = [k for k, c in enumerate(classes) if c.role == "tumor"]
    canvas = Canvas(block.box, plan.grid, plan.window, [c.code for c in classes], tumor)
    tiles = read_tiles(reader, plan, block.tiles)
    while batch := list(islice(tiles, batch_size)):
        canvas.add([position for position, _ in batch], predict(np.stack([pixels for _, pixels in batch])))
    return canvas.finish(tissue.on(block.box, plan.frame))


def read_tiles(
    reader: SlideReader, plan: TilePlan, tiles: Iterable[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], UInt8]]:
    """Grid positions with their pixels, uint8 ``[tile_px, tile_px, 3]``; neighbours in a row are read together."""
    for run in _rows_of_neighbours(tiles):
        first, last = plan.grid.tile(*run[0]), plan.grid.tile(*run[-1])
        strip = Box(first.y, first.x, first.height, last.x_stop - first.x)
        pixels = reader.read(strip, plan.mpp)
        for position in run:
            yield position, pixels[plan.grid.tile(*position).slices(strip)]


def _rows_of_neighbours(tiles: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    run: list[tuple[int, int]] = []
    for row, col in tiles:
        if run and (row, col) != (run[-1][0], run[-1][1] + 1):
            yield run
            run = []
        run.append((row, col))
    if run:
        yield run
