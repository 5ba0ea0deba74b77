"""Outlines of the positive pieces of a field: closed rings with their holes."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from noctile.pipeline.arrays import Float32, Float64
from noctile.pipeline.geometry import Frame

_TOLERANCE_PX = 0.05
"""Largest distance by which a ring may move when points on a nearly straight line are left out (px
of the field)."""


def outlines(field: Float32, frame: Frame, to: Frame) -> Iterator[list[Float64]]:
    """Polygons around the pieces (4 neighbours) of a field that are above 0, from top to bottom.

    The field is interpolated between pixels. At the edge of the frame a piece ends.

    Args:
        field: float32 ``[h, w]``, nowhere 0.
        frame: frame of the field.
        to: frame whose pixels are the unit of the points; it has the same top left corner as
            ``frame``.

    Yields:
        Rings of one piece: the outer ring, then its holes. A ring is float64 ``[points, 2]`` as
        ``x, y``, measured from pixel edge to pixel edge; its first point is repeated at the end.
    """
    pieces, _ = ndimage.label(field > 0)
    scale = np.array([frame.mpp_x / to.mpp_x, frame.mpp_y / to.mpp_y])
    limit = np.array([to.extent.width, to.extent.height])
    for number, where in enumerate(ndimage.find_objects(pieces), 1):
        y, x = (slice(max(0, side.start - 1), side.stop + 1) for side in where)
        size = np.pad(np.abs(field[y, x]), 1, mode="edge")
        alone = np.where(np.pad(pieces[y, x] == number, 1), size, -size)
        rings = sorted(find_contours(alone, 0.0), key=_area, reverse=True)  # type: ignore[no-untyped-call]
        origin = np.array([x.start - 0.5, y.start - 0.5])
        yield [np.clip((_fewer(ring)[:, ::-1] + origin) * scale, 0, limit) for ring in rings]


def _area(ring: Float64) -> float:
    """Area inside a ring by the shoelace formula (px of the field, squared)."""
    y, x = ring.T
    return abs(float(np.dot(y[:-1], x[1:]) - np.dot(x[:-1], y[1:]))) / 2


def _fewer(ring: Float64) -> Float64:
    """Leave out points of a ring that hardly change its shape."""
    fewer: Float64 = approximate_polygon(ring, _TOLERANCE_PX)  # type: ignore[no-untyped-call]
    return fewer if len(fewer) > 4 else ring
