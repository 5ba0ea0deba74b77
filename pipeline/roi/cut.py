"""Polygons on a label map: those that cross themselves are drawn apart, and costly ones refused."""

from collections.abc import Iterator, Sequence

import numpy as np

from noctile.pipeline.arrays import Bool
from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.truth.raster import Polygons, Ring, cover, draw_union

MOST_COVERS, MOST_ROWS = 20, 2 * 10**8
"""Most times that outlines which cross themselves cover the slide, and most rows of label pixels
that all edges cross together. Both take time: a pass over the slide each time, and about 10 s for
each 100 million rows."""

_FEWEST_POINTS = 3
"""Fewest points of a ring that has an inside."""

_STRIP_PX = 1024
"""Height of the strips of a block that are drawn at once (px): 40 MB for a block of 8192 px."""


class Cut:
    """Part of a label map that some polygons cover.

    Args:
        polygons: polygons of all regions (px of level 0).
        scale: pixels of the label map for each pixel of level 0, as ``(y, x)``.
        whole: box of the label map.

    Raises:
        UsageError: if the regions are so many or so long that it would take minutes to draw them.
    """

    def __init__(self, polygons: Polygons, scale: tuple[float, float], whole: Box) -> None:
        self._scale = scale
        self._covers = [_scaled(cover(rings[0]), *scale) for rings in polygons]
        simple = [_is_simple(rings) for rings in polygons]
        self._simple = [p for p, good in zip(polygons, simple, strict=True) if good]
        self._crossing = [p for p, good in zip(polygons, simple, strict=True) if not good]
        covers_px = [near.intersect(whole).area for near in self._covers]
        self.cover_px = sum(covers_px)
        passes = sum(px for px, good in zip(covers_px, simple, strict=True) if not good)
        rows = sum(float(np.abs(np.diff(r[:, 0])).sum()) for rings in polygons for r in rings)
        if passes > MOST_COVERS * whole.area:
            what = f"outlines that cross themselves cover the slide more than {MOST_COVERS} times"
            raise UsageError(f"{what}; draw these regions again")
        if rows * scale[0] > MOST_ROWS:
            raise UsageError("the outlines of the regions are too long; simplify them")

    def touches(self, box: Box) -> bool:
        """Tell if a region may have pixels in a box of the label map."""
        return any(near.intersect(box).area for near in self._covers)

    def inside(self, box: Box) -> Bool:
        """Find the pixels of a box that the polygons cover, bool ``[box.height, box.width]``.

        A pixel is covered if its centre lies in a polygon.
        """
        found = np.empty((box.height, box.width), np.bool_)
        for strip in strips(box):
            found[strip.slices(box)] = self._drawn(strip)
        return found

    def _drawn(self, box: Box) -> Bool:
        """Draw a box at once, which takes 5 B for each of its pixels."""
        found = draw_union(self._simple, self._scale, box)
        for outer, *holes in self._crossing:
            without = draw_union([[hole] for hole in holes], self._scale, box)
            found |= draw_union([[outer]], self._scale, box) & ~without
        return found


def strips(box: Box) -> Iterator[Box]:
    """Cut a box into strips of `_STRIP_PX`, from top to bottom."""
    for y in range(box.y, box.y_stop, _STRIP_PX):
        yield Box(y, box.x, min(_STRIP_PX, box.y_stop - y), box.width)


def _is_simple(rings: Sequence[Ring]) -> bool:
    """Tell if a polygon's rings cross neither themselves nor each other."""
    if min(map(len, rings)) < _FEWEST_POINTS:
        return False
    import shapely  # noqa: PLC0415 - few processes need it

    outer, *holes = (ring[:, ::-1] for ring in rings)
    return bool(shapely.Polygon(outer, holes).is_valid)


def _scaled(box: Box, scale_y: float, scale_x: float) -> Box:
    """Smallest box around a box in other pixels, with a pixel around it."""
    y, x = int(box.y * scale_y) - 1, int(box.x * scale_x) - 1
    return Box(y, x, int(box.y_stop * scale_y) + 2 - y, int(box.x_stop * scale_x) + 2 - x)
