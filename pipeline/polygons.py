"""Outlines of the pieces of a field: closed rings with their holes, in the pixels of another frame."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from noctile.pipeline.arrays import Float32, Float64
from noctile.pipeline.geometry import Frame

_TOLERANCE_PX = 0.05
"""How far a ring may move where points on an almost straight line are left out (px of the field).
"""


def outlines(field: Float32, frame: Frame, to: Frame) -> Iterator[list[Float64]]:
    """The polygons of what is above 0, one for each piece (4 neighbours), from the top down.

    Between pixels the field is interpolated; at the frame's edge a piece ends with it.

    Args:
        field: float32 ``[h, w]``, nowhere 0.
        frame: of the field.
        to: the frame whose pixels the points count in; it shares its top left corner with
            ``frame``.

    Yields:
        Rings, float64 ``[points, 2]`` as ``x, y`` from pixel edge to pixel edge, the first point
        repeated at the end; the first ring is the outer one, the rest are its holes.
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
    """The ring without points that say little."""
    fewer: Float64 = approximate_polygon(ring, _TOLERANCE_PX)  # type: ignore[no-untyped-call]
    return fewer if len(fewer) > 4 else ring
