"""Segment one block: read its tiles, predict them, and join them to a label map.

`segment_block` is the heart of the product. `noctile.workflows` decides where and when it runs.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box
from noctile.pipeline.measure import count_cores
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.plan import Block, TilePlan
from noctile.pipeline.quality import MIN_SHARPNESS, Position, sharpness
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.stitch.block import BlockMask
from noctile.pipeline.stitch.canvas import new_canvas
from noctile.pipeline.tissue_mask import TissueMask

_FOCUS_TILES = 32
"""Approximate number of tiles of a slide, evenly spread, whose sharpness is measured. The cost does
not grow with the slide."""

_UNSHARED_TILES = 2
"""Number of neighbours that are read in one call where tiles share no pixels, if a batch is not
larger. Decoded pixels are then still in the processor's cache when the network uses them."""


def segment_block(
    reader: SlideReader,
    plan: TilePlan,
    block: Block,
    tissue: TissueMask,
    predict: Predictor,
    batch_size: int,
) -> BlockMask:
    """Labels, maps and statistics of one block.

    The result depends on the arguments only, not on the process or the time. If the pixels of a
    tile cannot be read, its core has no label, also where its neighbours overlap it.

    Args:
        reader: the open slide.
        plan: the plan of the slide.
        block: one of ``plan.blocks``.
        tissue: the tissue mask that the plan was made from.
        predict: the model.
        batch_size: number of tiles in a batch. Batches are cut from the sorted tiles of the block
            that can be read.
    """
    inside = tissue.on(block.box, plan.frame)
    tissue_px = int(np.count_nonzero(inside))
    canvas = new_canvas(plan.window, block.box, plan.grid, predict, inside)
    unread: list[Position] = []
    focus: list[float] = []

    def leave_out(position: Position) -> None:
        unread.append(position)
        canvas.leave_out(position)

    tiles = read_tiles(reader, plan, block.tiles, leave_out, max(_UNSHARED_TILES, batch_size))
    while batch := list(islice(tiles, batch_size)):
        positions = [position for position, _ in batch]
        canvas.add(positions, np.stack([pixels for _, pixels in batch]), predict)
        focus.extend(_focus(plan, block, inside, batch))
    mask = canvas.finish()
    codes = [info.code for info in predict.card.classes]
    stats = replace(
        mask.stats,
        unread=tuple(
            position for position in unread if plan.grid.core(*position).intersect(block.box).area
        ),
        unread_px=tissue_px - mask.stats.analysed_px,
        focus_tiles=len(focus),
        blurred_tiles=sum(value < MIN_SHARPNESS for value in focus),
        cores=tuple(count_cores(plan, block, codes, mask.labels, mask.analysed, mask.confidence)),
    )
    return replace(mask, stats=stats)


def read_tiles(
    reader: SlideReader,
    plan: TilePlan,
    tiles: Iterable[Position],
    leave_out: Callable[[Position], object] = lambda _: None,
    together: int = _UNSHARED_TILES,
) -> Iterator[tuple[Position, UInt8]]:
    """Read tiles. Neighbours in a row are read together.

    If a read of several tiles fails, each of them is read alone, and those that still fail are left
    out.

    Args:
        reader: the open slide.
        plan: the plan of the slide.
        tiles: (row, col) of each tile in the grid, sorted.
        leave_out: function that is called with the position of each unreadable tile.
        together: largest number of tiles that are read together where neighbours share no pixels.

    Yields:
        the position of each readable tile, with its pixels, uint8 ``[tile_px, tile_px, 3]``.
    """
    limit = together if plan.grid.overlap_px == 0 else len(plan.tiles)
    for run in _neighbours(tiles, limit):
        try:
            yield from _read_run(reader, plan, run)
        except SlideReadError:
            for position in run:
                try:
                    yield from _read_run(reader, plan, [position])
                except SlideReadError:
                    leave_out(position)


def _read_run(
    reader: SlideReader, plan: TilePlan, run: Sequence[Position]
) -> list[tuple[Position, UInt8]]:
    """Read neighbours in a row with one call of the reader.

    Raises:
        SlideReadError: if the pixels of the slide cannot be decoded.
    """
    boxes = [plan.grid.tile(*position) for position in run]
    strip = Box(boxes[0].y, boxes[0].x, boxes[0].height, boxes[-1].x_stop - boxes[0].x)
    pixels = reader.read(strip, plan.mpp)
    return [(position, pixels[box.slices(strip)]) for position, box in zip(run, boxes, strict=True)]


def _focus(
    plan: TilePlan, block: Block, inside: Bool, tiles: Sequence[tuple[Position, UInt8]]
) -> Iterator[float]:
    """Sharpness of those cores that belong to the sample and lie in the block."""
    step = max(1, math.isqrt(plan.predictions // _FOCUS_TILES))
    for position, pixels in tiles:
        if any(k % step for k in position):
            continue
        part = plan.grid.core(*position).intersect(block.box)
        if part.area:
            tissue = inside[part.slices(block.box)]
            value = sharpness(
                pixels[part.slices(plan.grid.tile(*position))], tissue, plan.frame.mpp
            )
            if value is not None:
                yield value


def _neighbours(tiles: Iterable[Position], limit: int) -> Iterator[list[Position]]:
    """Groups of tiles that are neighbours in a row, at most ``limit`` in each."""
    run: list[Position] = []
    for row, col in tiles:
        if run and ((row, col) != (run[-1][0], run[-1][1] + 1) or len(run) == limit):
            yield run
            run = []
        run.append((row, col))
    if run:
        yield run
