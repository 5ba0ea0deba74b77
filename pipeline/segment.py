"""One block: read its tiles, predict, join. `segment_block` is the whole product; the rest says
where and when.
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
from noctile.pipeline.models.pixel_labels import tumor_channels
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.pipeline.plan import Block, TilePlan
from noctile.pipeline.quality import MIN_SHARPNESS, Position, sharpness
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.stitch.canvas import BlockMask, Canvas
from noctile.pipeline.tissue import TissueMask

_FOCUS_TILES = 32
"""Focus is judged on at least about so many tiles of a slide, evenly spread: its cost does not grow
with the slide."""

_ALONE = 2
"""Tiles that are read together where neighbours share no pixels: what is decoded has not left the
processor's cache when the network looks at it."""


def segment_block(
    reader: SlideReader,
    plan: TilePlan,
    block: Block,
    tissue: TissueMask,
    predict: Predictor,
    batch_size: int,
) -> BlockMask:
    """The labels of one block. The answer depends on its arguments alone, not on who computes it or
    when.

    Where the slide cannot be read, the core of the tile is not analysed: it has no label, whatever
    the neighbours say.

    Args:
        reader: of the slide that was planned.
        plan: of the slide.
        block: one of ``plan.blocks``.
        tissue: what the plan was made from.
        predict: the model.
        batch_size: tiles in a batch; batches are cut from the block's sorted tiles that can be
            read.
    """
    classes = predict.card.classes
    codes = [c.code for c in classes]
    inside = tissue.on(block.box, plan.frame)
    tissue_px = int(np.count_nonzero(inside))
    canvas = Canvas(block.box, plan.grid, plan.window, codes, tumor_channels(predict.card), inside)
    unread: list[Position] = []
    focus: list[float] = []

    def leave_out(position: Position) -> None:
        unread.append(position)
        canvas.leave_out(position)

    tiles = read_tiles(reader, plan, block.tiles, leave_out, max(_ALONE, batch_size))
    while batch := list(islice(tiles, batch_size)):
        positions, pixels = (
            [position for position, _ in batch],
            np.stack([pixels for _, pixels in batch]),
        )
        if plan.window == "crop":
            canvas.add_labels(
                positions, predict_labels(predict, pixels, Canvas.labelled_part(plan.grid))
            )
        else:
            canvas.add(positions, predict(pixels))
        focus.extend(_focus(plan, block, inside, batch))
    mask = canvas.finish()
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
    together: int = _ALONE,
) -> Iterator[tuple[Position, UInt8]]:
    """Grid positions with their pixels, uint8 ``[tile_px, tile_px, 3]``; neighbours in a row are
    read together.

    Where that fails each is read by itself; those that cannot be read are left out, and
    ``leave_out`` is told. Where neighbours share no pixels, at most ``together`` of them are.
    """
    for run in _rows_of_neighbours(
        tiles, together if plan.grid.overlap_px == 0 else len(plan.tiles)
    ):
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
    """Neighbours in a row, read at once.

    Raises:
        SlideReadError: if the slide's pixels cannot be decoded.
    """
    boxes = [plan.grid.tile(*position) for position in run]
    strip = Box(boxes[0].y, boxes[0].x, boxes[0].height, boxes[-1].x_stop - boxes[0].x)
    pixels = reader.read(strip, plan.mpp)
    return [(position, pixels[box.slices(strip)]) for position, box in zip(run, boxes, strict=True)]


def _focus(
    plan: TilePlan, block: Block, inside: Bool, tiles: Sequence[tuple[Position, UInt8]]
) -> Iterator[float]:
    """Sharpness of the cores that are sampled and lie in the block."""
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


def _rows_of_neighbours(
    tiles: Iterable[tuple[int, int]], most: int
) -> Iterator[list[tuple[int, int]]]:
    """Runs of at most so many tiles."""
    run: list[tuple[int, int]] = []
    for row, col in tiles:
        if run and ((row, col) != (run[-1][0], run[-1][1] + 1) or len(run) == most):
            yield run
            run = []
        run.append((row, col))
    if run:
        yield run
