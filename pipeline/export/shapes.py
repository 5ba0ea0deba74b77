"""Polygons of foci: outlines through the middles of pixel edges, simplified, valid, true in area.

A corner of a pixel is cut from the middle of one edge to the middle of the next. These outlines are
simple and touch nowhere, so polygons are valid, and oblique borders become straight lines. They lie
at least 0.35 px from the centre of every pixel, so that simplification by less changes the pixels
inside by none. A polygon that is not valid, or whose area would differ from its pixels' by more
than `AREA_TOLERANCE`, is simplified by half as much, and so on. In the end it keeps the pixel
edges: mostly a focus of a few pixels. An outline along pixel edges that touches itself is divided
there, so these polygons are valid as well.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from noctile.pipeline.arrays import Float64
from noctile.pipeline.export.trace import Focus, Ring

AREA_TOLERANCE = 0.0025
"""Largest difference between the areas of a polygon and of its pixels, as a share of the latter."""

EXACT_SHARE = 0.3
"""Simplification (px of the label map) by which no pixel's centre changes sides, with a margin for
rounded coordinates; the limit is 0.35."""

_RING_POINTS = 4
"""Least number of points of a closed line, the first of which is repeated at the end."""

_DECIMALS = 3
"""Decimals of the coordinates (level-0 px)."""

Polygons = npt.NDArray[np.object_]
"""Polygons of shapely, one for each focus."""

_Item = TypeVar("_Item")

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Units of polygons.

    Attributes:
        mpp_y: height of a pixel of the label map (um).
        mpp_x: width of a pixel of the label map (um).
        y: height of a pixel of the label map in the unit of the coordinates.
        x: width of a pixel of the label map in the unit of the coordinates.
    """

    mpp_y: float
    mpp_x: float
    y: float
    x: float


def polygons_of(
    foci: Sequence[Focus], scale: Scale, simplify_um: float, min_hole_um2: float = 0.0
) -> Polygons:
    """Make a valid polygon of each focus.

    Args:
        foci: foci with their outlines.
        scale: units of the label map and of the polygons.
        simplify_um: largest distance by which simplification may move an outline (um); 0 for
            polygons along pixel edges.
        min_hole_um2: area below which a hole is filled (um2).
    """
    rings = _rings_of(foci, min_hole_um2 / (scale.mpp_y * scale.mpp_x))
    polygons = np.empty(len(foci), np.object_)
    left = np.arange(len(foci))
    exact_um = EXACT_SHARE * min(scale.mpp_y, scale.mpp_x)
    while len(left) and simplify_um:
        simple = simplified(rings.of(left), scale, simplify_um)
        area_px = shapely.area(simple) / (scale.y * scale.x)
        is_true = np.abs(area_px / rings.area_px[left] - 1) <= AREA_TOLERANCE
        good = shapely.is_valid(simple) & is_true
        polygons[left[good]] = simple[good]
        left = left[~good]
        simplify_um = simplify_um / 2 if simplify_um > exact_um else 0.0
    polygons[left] = _along_edges(rings.of(left), scale)
    return polygons


@dataclass(frozen=True, slots=True)
class Rings:
    """Outlines of foci, one behind the other; the first one of a focus is its outer outline.

    Attributes:
        corners: corners of all outlines, as ``x, y`` (px).
        lengths: number of corners of each outline.
        owners: index of the focus of each outline, ascending.
        area_px: area inside the outlines of each focus (px).
    """

    corners: Float64
    lengths: _Indices
    owners: _Indices
    area_px: Float64

    def of(self, foci: _Indices) -> "Rings":
        """Return the outlines of some foci."""
        kept = np.isin(self.owners, foci)
        return Rings(
            self.corners[np.repeat(kept, self.lengths)],
            self.lengths[kept],
            np.searchsorted(foci, self.owners[kept]),
            self.area_px[foci],
        )

    def parts(self) -> Iterator[tuple[int, Float64]]:
        """Yield each outline with the index of its focus."""
        stops = np.cumsum(self.lengths)
        for owner, stop, length in zip(self.owners.tolist(), stops, self.lengths, strict=True):
            yield owner, self.corners[stop - length : stop]


def kept_rings(focus: Focus, min_hole_px: float) -> list[tuple[float, Ring]]:
    """Outlines of a focus with their areas (px), without small holes; the outer one comes first."""
    rings = [(_area_px(ring), ring) for ring in focus.rings]
    kept = [(area, ring) for area, ring in rings if area > 0 or -area >= min_hole_px]
    return sorted(kept, key=lambda pair: pair[0] < 0)


def _rings_of(foci: Sequence[Focus], min_hole_px: float) -> Rings:
    """Collect the outlines of foci, without small holes."""
    parts, area_px = [], np.zeros(len(foci))
    for k, focus in enumerate(foci):
        kept = kept_rings(focus, min_hole_px)
        area_px[k] = sum(area for area, _ in kept)
        parts += [(k, ring) for _, ring in kept]
    return joined(parts, area_px)


def joined(parts: Sequence[tuple[int, npt.NDArray[Any]]], area_px: Float64) -> Rings:
    """Put outlines one behind the other; each comes with the index of its focus."""
    corners = np.concatenate([np.zeros((0, 2)), *(ring for _, ring in parts)])
    lengths = np.array([len(ring) for _, ring in parts], np.int64)
    return Rings(corners, lengths, np.array([k for k, _ in parts], np.int64), area_px)


def simplified(rings: Rings, scale: Scale, largest_um: float) -> Polygons:
    """Make polygons through the middles of pixel edges, simplified."""
    points, lengths = _through_middles(rings.corners, rings.lengths)
    lines = linear_rings(points * (scale.mpp_x, scale.mpp_y), lengths)
    # A line moves by at most the tolerance, and again where the start of a ring is left out.
    simple = shapely.simplify(lines, largest_um / 2, preserve_topology=False)
    collapsed = shapely.get_num_coordinates(simple) < _RING_POINTS
    simple[collapsed] = lines[collapsed]
    polygons: Polygons = np.asarray(shapely.polygons(simple, indices=rings.owners))
    return rescaled(polygons, (scale.x / scale.mpp_x, scale.y / scale.mpp_y))


def _along_edges(rings: Rings, scale: Scale) -> Polygons:
    """Make polygons along pixel edges."""
    whole = [(k, part) for k, ring in rings.parts() for part in without_touches(ring)]
    whole.sort(key=lambda pair: (pair[0], _area_px(pair[1]) < 0))
    rings = joined(whole, rings.area_px)
    lines = linear_rings(rings.corners, rings.lengths)
    polygons: Polygons = np.asarray(shapely.polygons(lines, indices=rings.owners))
    return rescaled(polygons, (scale.x, scale.y))


def without_touches(ring: Ring | Float64) -> list[Float64]:
    """Divide an outline where it touches itself, into outlines that do not.

    Pixels of a focus may touch over a corner only. The outline visits this corner twice. Divided
    there, it is an outer outline, which comes first, and a hole, or several holes.
    """
    corners = [(x, y) for x, y in ring.tolist()]
    if len(set(corners)) == len(corners):
        return [ring.astype(np.float64)]
    parts, path, index = [], list[tuple[float, float]](), dict[tuple[float, float], int]()
    for corner in corners:
        if (first := index.get(corner)) is not None:
            parts.append(path[first:])
            for left in path[first:]:
                del index[left]
            del path[first:]
        index[corner] = len(path)
        path.append(corner)
    whole = [np.array(part) for part in (*parts, path)]
    return sorted(whole, key=lambda part: _area_px(part) < 0)


def _area_px(ring: npt.NDArray[Any]) -> float:
    """Area inside an outline by the shoelace formula (px); negative for a hole."""
    x, y = ring.T.astype(np.float64)
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]) / 2


def _through_middles(corners: Float64, lengths: _Indices) -> tuple[Float64, _Indices]:
    """Cut the corners of rings: each edge keeps what lies between half a pixel from its ends.

    Returns:
        the points of all rings, and the number of points of each.
    """
    stops = np.cumsum(lengths)
    following = np.arange(1, len(corners) + 1)
    following[stops - 1] = stops - lengths
    edge = corners[following] - corners
    half = np.sign(edge) / 2
    points = np.stack([corners + half, corners + edge - half], 1)
    kept = np.ones(points.shape[:2], np.bool_)
    kept[:, 1] = np.abs(edge).sum(1) > 1  # the middle of an edge of one pixel is one point
    return points[kept], np.add.reduceat(kept.sum(1), stops - lengths)


def linear_rings(points: Float64, lengths: _Indices) -> Polygons:
    """Make closed lines.

    Args:
        points: points of all lines, as ``x, y``.
        lengths: number of points of each line.
    """
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    lines: Polygons = np.asarray(shapely.linearrings(points, indices=numbers))
    return lines


def rescaled(polygons: Polygons, scale: tuple[float, float]) -> Polygons:
    """Multiply x and y of polygons by two factors, and round them to `_DECIMALS`."""
    scaled: Polygons = shapely.transform(polygons, lambda xy: np.round(xy * scale, _DECIMALS))
    return scaled


def in_batches(
    items: Sequence[_Item], size: Callable[[_Item], int], most: int
) -> Iterator[list[_Item]]:
    """Divide items into batches of a bounded total size; a larger item is alone.

    Args:
        items: the items.
        size: gives the size of an item, such as its number of corners.
        most: largest total size of a batch of several items.
    """
    batch, total = list[_Item](), 0
    for item in items:
        if batch and total + size(item) > most:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
