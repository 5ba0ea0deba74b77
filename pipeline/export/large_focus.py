"""Coordinates of a focus with very long outlines, made in batches of outlines.

The stroma of a slide can be one focus with ten thousand holes. As one polygon it takes gigabytes.
Simplified by at most `EXACT_SHARE` of a pixel, outlines stay apart, so the polygon is valid without
a check.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import shapely

from noctile.pipeline.arrays import Float64
from noctile.pipeline.export.shapes import (
    AREA_TOLERANCE,
    EXACT_SHARE,
    Polygons,
    Scale,
    in_batches,
    joined,
    kept_rings,
    linear_rings,
    rescaled,
    simplified,
    without_touches,
)
from noctile.pipeline.export.trace import Focus, Ring

LARGE_CORNERS = 2**19
"""Number of corners from which on a focus is large. A polygon takes about 150 bytes for each."""

_Outline = Ring | Float64


def coordinates_of(
    focus: Focus, scale: Scale, simplify_um: float, min_hole_um2: float = 0.0
) -> Iterator[str]:
    """Yield the text of the coordinates of a GeoJSON polygon, in pieces.

    Args:
        focus: focus with its outlines.
        scale: units of the label map and of the polygon.
        simplify_um: largest distance by which simplification may move an outline (um); no more
            than `EXACT_SHARE` of a pixel is used.
        min_hole_um2: area below which a hole is filled (um2).
    """
    rings = kept_rings(focus, min_hole_um2 / (scale.mpp_y * scale.mpp_x))
    outlines: list[_Outline] = [ring for _, ring in rings]
    largest_um = min(simplify_um, EXACT_SHARE * min(scale.mpp_y, scale.mpp_x))
    area_px = sum(area for area, _ in rings)
    if largest_um and abs(_area_px(outlines, scale, largest_um) / area_px - 1) > AREA_TOLERANCE:
        largest_um = 0.0
    if not largest_um:
        outlines = [part for ring in outlines for part in without_touches(ring)]
    yield "["
    for k, polygons in enumerate(_polygons(outlines, scale, largest_um)):
        texts = (text[text.index("[") + 1 : -2] for text in shapely.to_geojson(polygons))
        yield ("," if k else "") + ",".join(texts)
    yield "]"


def _area_px(outlines: Sequence[_Outline], scale: Scale, largest_um: float) -> float:
    """Area inside the simplified outlines, the first of which is the outer one (px)."""
    areas = [shapely.area(polygons) for polygons in _polygons(outlines, scale, largest_um)]
    outer, *holes = np.concatenate(areas).tolist()
    return float(outer - sum(holes)) / (scale.y * scale.x)


def _polygons(outlines: Sequence[_Outline], scale: Scale, largest_um: float) -> Iterator[Polygons]:
    """Yield a polygon for each outline alone, in batches of a bounded number of corners."""
    for batch in in_batches(outlines, len, LARGE_CORNERS):
        rings = joined(list(enumerate(batch)), np.zeros(0))
        if largest_um:
            yield simplified(rings, scale, largest_um)
        else:
            lines = linear_rings(rings.corners, rings.lengths)
            yield rescaled(np.asarray(shapely.polygons(lines)), (scale.x, scale.y))
