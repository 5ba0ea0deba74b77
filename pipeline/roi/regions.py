"""Regions of interest: GeoJSON polygons to which the analysis of a slide is confined."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from noctile.pipeline.arrays import Bool
from noctile.pipeline.errors import RoiError, UsageError
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.qupath import properties
from noctile.pipeline.roi.cut import MOST_COVERS, Cut
from noctile.pipeline.truth.geojson import (
    class_name,
    normalize_name,
    parse_annotations,
    read_features,
)
from noctile.pipeline.truth.raster import Ring, batches
from noctile.pipeline.untrusted import printable

MAX_BYTES, MAX_REGIONS, MAX_POINTS = 2**25, 1_000, 2**18
"""Largest file of regions after unpacking (B), most regions, and most points of all of them."""

OUTSIDE_SHARE = 0.01
"""Share of the slide's longer side by which a region may reach outside the slide. Hands slip."""

_IGNORED = "ignore*"
"""Class of areas that are cut out of all regions, as `normalize_name` gives it. (QuPath,
``PathClass.StandardPathClasses``)"""

_NAME_CHARS = 200
"""Longest name of a region (characters)."""

_COLOR = 0, 114, 178
"""Colour of the class of a region in a file that is written here (R, G, B)."""

Polygon = tuple[Ring, ...]
"""A polygon: its outer ring, then its holes; a ring is float64 ``[n, 2]``, y and x."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One region of interest.

    Attributes:
        name: name, unique among the regions of a slide.
        label: name of its class; "" without one.
        polygons: its polygons (px of level 0, as QuPath opens the slide).
    """

    name: str
    label: str
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True, eq=False)
class Roi:
    """Regions of interest of one slide.

    Attributes:
        regions: the regions; they may overlap.
        ignored: polygons that are cut out of all of them.
        native: frame of level 0.
    """

    regions: tuple[Region, ...]
    ignored: tuple[Polygon, ...]
    native: Frame

    def inside(self, box: Box, frame: Frame) -> Bool:
        """Find the pixels of a box that lie in a region, bool ``[box.height, box.width]``.

        A pixel lies in a region if its centre does.

        Args:
            box: pixels of ``frame``.
            frame: a frame of the slide.
        """
        return self.on(frame).inside(box)

    def on(self, frame: Frame) -> "PlacedRoi":
        """Return the regions in the pixels of a frame; each frame is prepared once.

        Raises:
            RoiError: if it would take minutes to draw them.
        """
        if frame not in self._placed:
            self._placed[frame] = PlacedRoi(self, frame)
        return self._placed[frame]

    @cached_property
    def _placed(self) -> dict[Frame, "PlacedRoi"]:
        return {}


class PlacedRoi:
    """Regions of interest in the pixels of one frame.

    Args:
        roi: the regions.
        frame: frame of the pixels.

    Raises:
        RoiError: if it would take minutes to draw them.
    """

    def __init__(self, roi: Roi, frame: Frame) -> None:
        self._roi, self._frame = roi, frame
        polygons = [polygon for region in roi.regions for polygon in region.polygons]
        try:
            self._union, self._ignored = (self._cut(some) for some in (polygons, roi.ignored))
        except UsageError as error:
            raise RoiError(f"regions of interest: {error}") from error
        if self._union.cover_px > MOST_COVERS * frame.box.area:
            raise RoiError(
                f"the regions of interest cover the slide more than {MOST_COVERS} times; draw "
                "fewer that overlap"
            )

    def touches(self, box: Box) -> bool:
        """Tell if a region may have pixels in a box."""
        return self._union.touches(box)

    def inside(self, box: Box) -> Bool:
        """Find the pixels of a box that lie in any region, bool ``[box.height, box.width]``."""
        if not self._union.touches(box):
            return np.zeros((box.height, box.width), np.bool_)
        return self._without_ignored(self._union.inside(box), box)

    def each(self, box: Box) -> Iterator[tuple[int, Bool]]:
        """Yield the number of each region that may have pixels in a box, and these pixels."""
        for number, region in enumerate(self._regions):
            if region.touches(box):
                yield number, self._without_ignored(region.inside(box), box)

    def _cut(self, polygons: Sequence[Polygon]) -> Cut:
        native, frame = self._roi.native, self._frame
        return Cut(polygons, (native.mpp_y / frame.mpp_y, native.mpp_x / frame.mpp_x), frame.box)

    @cached_property
    def _regions(self) -> list[Cut]:
        """Each region alone; only `each` needs them."""
        return [self._cut(region.polygons) for region in self._roi.regions]

    def _without_ignored(self, found: Bool, box: Box) -> Bool:
        if self._ignored.touches(box):
            found &= ~self._ignored.inside(box)
        return found


def read_roi(content: bytes, origin: str, native: Frame) -> Roi:
    """Read regions of interest from GeoJSON, as QuPath writes it, with or without gzip.

    Each annotation is a region; it needs no class. Its name is its own, else that of its class,
    else ``region 1`` and so on. Annotations of the class ``Ignore*`` are cut out of all regions.

    Args:
        content: content of the file.
        origin: name of the file, for the message.
        native: frame of the slide's level 0, cut to its bounds.

    Raises:
        RoiError: if it is no such GeoJSON, too large, or does not fit the slide.
    """
    try:
        features = read_features(content, origin, MAX_BYTES)
        if len(features) > MAX_REGIONS:
            raise UsageError(f"{origin} holds {len(features)} regions, more than {MAX_REGIONS}")
        bare = [{"geometry": _part(f, "geometry"), "properties": _ANY_CLASS} for f in features]
        shapes = [annotation.polygons for annotation in parse_annotations(bare, origin)]
    except UsageError as error:
        raise RoiError(f"region of interest: {error}") from error
    if sum(len(ring) for polygons in shapes for rings in polygons for ring in rings) > MAX_POINTS:
        raise RoiError(f"{origin} holds more than {MAX_POINTS} points; simplify its regions")
    about = [_part(feature, "properties") for feature in features]
    labels = [_label(one, origin) for one in about]
    ignored = [normalize_name(label) == _IGNORED for label in labels]
    kept = [k for k, left_out in enumerate(ignored) if not left_out]
    names = _unique_names([(about[k].get("name"), labels[k]) for k in kept])
    regions = tuple(
        Region(name, printable(labels[k])[:_NAME_CHARS], shapes[k])
        for k, name in zip(kept, names, strict=True)
    )
    if not regions:
        raise RoiError(f"{origin} holds no region, only areas of the class Ignore*")
    cut_out = (polygon for k, shape in enumerate(shapes) if ignored[k] for polygon in shape)
    _check_place(regions, origin, native)
    return Roi(regions, tuple(cut_out), native)


_ANY_CLASS = {"classification": "roi"}
"""Properties with a class that every polygon may have."""


def _part(feature: Any, name: str) -> Any:
    """Object ``geometry`` or ``properties`` of a feature; empty if it has none."""
    part = feature.get(name) if isinstance(feature, dict) else None
    return part if isinstance(part, dict) else {}


def _label(about: dict[str, Any], origin: str) -> str:
    """Name of the class of a feature; "" without one.

    Raises:
        RoiError: if the class is not as QuPath writes it.
    """
    try:
        return class_name(about) or ""
    except (TypeError, AttributeError) as error:
        raise RoiError(f"{origin}: a class that QuPath does not write: {error}") from error


def _unique_names(given: Sequence[tuple[Any, str]]) -> list[str]:
    """Names of regions, each once; a later one of the same name gets a number.

    Args:
        given: name and class of each region, which may be empty.
    """
    names = [
        printable(str(name or label or f"region {k}"))[:_NAME_CHARS]
        for k, (name, label) in enumerate(given, start=1)
    ]
    taken, seen = set(names), Counter[str]()
    for k, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[k] = next(n for i in count(seen[name]) if (n := f"{name} {i}") not in taken)
            taken.add(names[k])
    return names


def _check_place(regions: Sequence[Region], origin: str, native: Frame) -> None:
    """Check that the regions lie on the slide.

    Raises:
        RoiError: if one reaches outside it, or has no area.
    """
    height, width = native.extent.height, native.extent.width
    most = OUTSIDE_SHARE * max(height, width)
    for region in regions:
        points = np.concatenate([ring for rings in region.polygons for ring in rings])
        (y, x), (y_stop, x_stop) = points.min(axis=0), points.max(axis=0)
        if y_stop - y <= 0 or x_stop - x <= 0:
            raise RoiError(f"{origin}: {region.name!r} is empty, it has no area; draw it again")
        reach = max(-y, -x, y_stop - height, x_stop - width)
        if reach > most or y >= height or x >= width or y_stop <= 0 or x_stop <= 0:
            raise RoiError(
                f"{origin}: {region.name!r} reaches from y {y:.0f}, x {x:.0f} to y {y_stop:.0f}, "
                f"x {x_stop:.0f}, but the slide has {height} x {width} px of level 0 (height x "
                "width). The file belongs to another slide, or its coordinates are not those of "
                "QuPath: pixels of level 0, counted from the corner of the scanned region"
            )


def roi_features(roi: Roi) -> dict[str, Any]:
    """GeoJSON FeatureCollection of regions of interest, which `read_roi` reads back unchanged."""
    kept = [_feature(region.polygons, region.name, region.label) for region in roi.regions]
    most = max(1, MAX_REGIONS - len(kept))  # features that are left
    each = math.ceil(len(roi.ignored) / most)
    parts = (roi.ignored[k : k + each] for k in range(0, len(roi.ignored), each or 1))
    ignored = [_feature(polygons, "", "Ignore*") for polygons in parts]
    return {"type": "FeatureCollection", "features": [*kept, *ignored]}


def _feature(polygons: Sequence[Polygon], name: str, label: str) -> dict[str, Any]:
    coordinates = [[ring[:, ::-1].tolist() for ring in polygon] for polygon in polygons]
    about: dict[str, Any] = properties(label, _COLOR) if label else {"objectType": "annotation"}
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
        "properties": {**about, **({"name": name} if name else {})},
    }


def near_regions(roi: Roi, frame: Frame) -> Bool:
    """Find the pixels of a coarse frame that may hold any point of a region.

    They are the pixels whose centres lie in a region, and those that an outline crosses with their
    neighbours. So no pixel of a finer frame that lies in a region lies outside of them.

    Args:
        roi: the regions.
        frame: a frame of the slide.

    Returns:
        bool ``[h, w]``.

    Raises:
        RoiError: if it would take minutes to draw them.
    """
    near = np.zeros((frame.extent.height + 2, frame.extent.width + 2), np.bool_)
    scale = np.array([roi.native.mpp_y / frame.mpp_y, roi.native.mpp_x / frame.mpp_x])
    polygons = (*(p for region in roi.regions for p in region.polygons), *roi.ignored)
    for ring in (ring for polygon in polygons for ring in polygon):
        for points in _along(ring * scale):
            y, x = np.clip(np.floor(points).astype(np.int64) + 1, 0, np.array(near.shape) - 1).T
            near[y, x] = True
    near[:, 1:] |= near[:, :-1].copy()
    near[:, :-1] |= near[:, 1:].copy()
    near[1:] |= near[:-1].copy()
    near[:-1] |= near[1:].copy()
    return near[1:-1, 1:-1] | roi.inside(frame.box, frame)


def _along(ring: Ring) -> Iterator[Ring]:
    """Points on the edges of a closed ring, at most half a pixel apart, many at a time."""
    step = np.roll(ring, -1, axis=0) - ring
    n = 2 * np.ceil(np.abs(step).max(axis=1)).astype(np.int64) + 1
    for some in batches(n):
        edge = np.repeat(np.arange(some.start, some.stop), n[some])
        begins = np.repeat(np.cumsum(n[some]) - n[some], n[some])
        part = (np.arange(len(edge)) - begins) / n[edge]
        yield ring[edge] + step[edge] * part[:, None]
