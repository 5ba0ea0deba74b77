"""Polygons drawn into pixels: a pixel belongs to a polygon if its centre lies inside."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box

_CROSSINGS = 2**20
"""Number of crossings of edges and rows that are computed at once: about 100 MB of memory."""

Ring = npt.NDArray[np.float64]

Polygons = Sequence[Sequence[Ring]]
"""Polygons, each with its outer ring first and then its holes; a ring is float64 ``[n, 2]``, y and
x."""


def draw_union(polygons: Polygons, scale: tuple[float, float], box: Box) -> npt.NDArray[np.bool_]:
    """Find the pixels whose centres lie in any of some polygons.

    The time does not depend on how often the polygons overlap. A single ring may cross itself: it
    holds all that it goes round, so a loop that is drawn twice is no hole.

    Args:
        polygons: polygons whose rings cross neither themselves nor each other, or polygons of one
            ring (px of level 0).
        scale: pixels of the result for each pixel of level 0, as ``(y, x)``.
        box: part of the result that is drawn (px of the result).

    Returns:
        bool ``[box.height, box.width]``.
    """
    inside = np.zeros((box.height, box.width), bool)
    rings = [
        _directed(ring, hole=number > 0) * np.array(scale)
        for polygon in polygons
        for number, ring in enumerate(polygon)
    ]
    part = cover(np.concatenate(rings)).intersect(box) if rings else Box(0, 0, 0, 0)
    if part.area:
        inside[part.slices(box)] = _turns(rings, part) != 0
    return inside


def _directed(ring: Ring, *, hole: bool) -> Ring:
    """Ring in the direction of an outer ring, or in that of a hole, which takes a turn away."""
    (y, x), (y_next, x_next) = ring.T, np.roll(ring, -1, axis=0).T
    return ring[::-1] if (np.sum(x * y_next - x_next * y) < 0) != hole else ring


def fill(codes: UInt8, polygons: Polygons, code: int, scale: Ring, box: Box) -> None:
    """Set the pixels of ``codes`` whose centres lie in a polygon.

    Args:
        codes: uint8 ``[box.height, box.width]``; it is changed.
        polygons: polygons (px of level 0).
        code: value of the pixels inside.
        scale: pixels of ``codes`` for each pixel of level 0, float64 ``[2]``, y and x.
        box: place of ``codes`` (px of the scaled frame).
    """
    for rings in polygons:
        scaled = [ring * scale for ring in rings]
        part = cover(scaled[0]).intersect(box)
        if part.area:
            codes[part.slices(box)][_turns(scaled, part) % 2 == 1] = code


def cover(ring: Ring) -> Box:
    """Smallest box that covers a ring."""
    (y, x), (y_stop, x_stop) = np.floor(ring.min(axis=0)), np.ceil(ring.max(axis=0))
    return Box(int(y), int(x), int(y_stop - y), int(x_stop - x))


def _turns(rings: Sequence[Ring], box: Box) -> npt.NDArray[np.int32]:
    """Count how often rings go round the centre of each pixel.

    Each edge that crosses a row of pixel centres adds or takes away one turn for the rest of the
    row, by its direction. A centre lies inside an odd number of rings if its turns are odd. Edges
    are crossed in the coordinates of the frame, so that the count of a centre on an outline is the
    same in every box.

    Args:
        rings: rings, closed or not, float64 ``[n, 2]``, y and x (px of the frame).
        box: part of the frame that is counted.

    Returns:
        int32 ``[box.height, box.width]``.
    """
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upper, lower = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first, last = (
        np.clip(np.ceil(edge - 0.5), box.y, box.y_stop).astype(np.int64) for edge in (upper, lower)
    )
    crossed = last - first
    turns, down = np.zeros((box.height, box.width + 1), np.int32), stop[:, 0] > start[:, 0]
    for some in batches(crossed):
        edge = np.repeat(np.arange(some.start, some.stop), crossed[some])
        row = (
            np.arange(len(edge))
            - np.repeat(np.cumsum(crossed[some]) - crossed[some], crossed[some])
            + first[edge]
        )
        (y0, x0), (y1, x1) = start[edge].T, stop[edge].T
        x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        column = np.clip(np.ceil(x - 0.5), box.x, box.x_stop).astype(np.int64)
        np.add.at(turns, (row - box.y, column - box.x), np.where(down[edge], 1, -1))
    np.cumsum(turns, axis=1, out=turns)
    return turns[:, : box.width]


def batches(crossed: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Slices of edges that cross at most `_CROSSINGS` rows together; at least one edge each.

    Args:
        crossed: number of rows that each edge crosses, or of other things to compute for it.
    """
    total = np.cumsum(crossed)
    start = 0
    while start < len(crossed):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _CROSSINGS, "right")))
        yield slice(start, stop)
        start = stop
