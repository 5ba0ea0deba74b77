"""Annotations of a slide by Noctile or QuPath: GeoJSON polygons in pixels of level 0."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.tiff.limits import MAX_SIDE_PX
from noctile.pipeline.truth.points import POINT_CONTEXT_PX
from noctile.pipeline.truth.raster import Ring
from noctile.pipeline.truth.scheme import (
    BCSS_CODES,
    OTHER,
    OUTSIDE,
    STROMA,
    TUMOR,
    ClassScheme,
)
from noctile.pipeline.untrusted import parse_json, read_bytes

SUFFIXES = (".geojson", ".geojson.gz")

_QUPATH_CODES = {
    "tumour": TUMOR,
    "stroma": STROMA,
    "immune_cells": BCSS_CODES["lymphocytic_infiltrate"],
    "necrosis": BCSS_CODES["necrosis_or_debris"],
    "other": OTHER,
    "ignore*": OUTSIDE,
}
"""Codes of QuPath's own classes that have another name in BCSS. (qupath-core,
``PathClass.StandardPathClasses``)"""

_FRAMES = ("roi", "region", "region*")
"""Classes of the outer frames of regions, as `normalize_name` gives them."""

_PART_PX = 8192
"""Largest side of a region of a slide (px of level 0): 201 MB of pixels at full resolution."""

MAX_BYTES, MAX_FEATURES = 2**27, 20_000
"""Largest size of a file after unpacking (bytes), and largest number of its features.

A file of this size has 3 million points and takes 1.4 GB of memory while it is read."""

Edges = npt.NDArray[np.int64]
"""Boxes as columns: y, x, y_stop and x_stop, int64 ``[4, n]``."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated area.

    Attributes:
        label: name of the class as the file has it; None for the outer frame of a region.
        polygons: polygons, each with its outer ring first and then its holes; a ring is float64
            ``[n, 2]``, y and x (px of level 0). A point has none.
        feature_id: UUID of the feature in lower case, or "".
        layer: number of its layer; a higher one is drawn later.
        removed: true for an area that a correction took away from its class.
        point: y and x (px of level 0) of a point; None for an area.
    """

    label: str | None
    polygons: tuple[tuple[Ring, ...], ...]
    feature_id: str = ""
    layer: int = 0
    removed: bool = False
    point: tuple[float, float] | None = None

    @property
    def box(self) -> Box:
        """Smallest box that covers the annotation (px of level 0)."""
        if self.point is not None:
            return Box(math.floor(self.point[0]), math.floor(self.point[1]), 1, 1)
        points = np.concatenate([rings[0] for rings in self.polygons])
        y, x = map(int, np.floor(points.min(axis=0)))
        y_stop, x_stop = map(int, np.ceil(points.max(axis=0)))
        return Box(y, x, y_stop - y, x_stop - x)

    @property
    def surroundings(self) -> Box:
        """Box that training reads: that of an area, or the surroundings of a point."""
        return self.box if self.point is None else self.box.grow(POINT_CONTEXT_PX)

    @property
    def area_px(self) -> float:
        """Area of the annotation without its holes (px of level 0)."""
        return sum(_area_px(rings[0]) - sum(map(_area_px, rings[1:])) for rings in self.polygons)


def is_geojson(path: Path) -> bool:
    """True if a file's name is that of GeoJSON annotations."""
    return path.name.lower().endswith(SUFFIXES)


def annotated_name(path: Path) -> str:
    """Name of a file of GeoJSON annotations without its suffix, in upper or lower case."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def read_annotations(
    path: Path, *, points: bool = False, most: int = MAX_FEATURES
) -> list[Annotation]:
    """Read the annotations of a GeoJSON file, with or without gzip.

    The file holds a FeatureCollection, a list of features or one feature. An annotation of class
    ``ROI`` or ``Region*``, or without a class and with a name that begins so, is the outer frame of
    a region.

    Args:
        path: path of the file.
        points: true to read points, too; else they are refused.
        most: largest number of features.

    Raises:
        UsageError: if the file is not such GeoJSON, or one of its features is no polygon or has no
            class.
    """
    origin = f"annotations {path}"
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise _unreadable(origin, error) from error
    features = read_features(content, origin)
    check_count(len(features), most, path)
    found = parse_annotations(features, origin, points=points)
    check_count(len(found), most, path)
    return found


def read_features(content: bytes, origin: str, most_bytes: int = MAX_BYTES) -> list[Any]:
    """Read the features of GeoJSON: a FeatureCollection, a list of features or one feature.

    Args:
        content: content of the file, with or without gzip.
        origin: name of the file, for the message.
        most_bytes: largest size after unpacking (B).

    Raises:
        UsageError: if it is no GeoJSON, or holds no features.
    """
    try:
        values = parse_json(_unpacked(content, most_bytes))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(origin, error) from error
    if isinstance(values, dict):
        values = values.get("features", [values])
    if not isinstance(values, list) or not values:
        raise UsageError(
            f"{origin} hold no features. Export annotations as a GeoJSON FeatureCollection"
        )
    return values


def _unreadable(origin: str, error: Exception) -> UsageError:
    return UsageError(f"{origin} cannot be read: {error}. Export them again as GeoJSON")


def check_count(count: int, most: int, path: Path) -> None:
    """Check the number of the features or points of a file.

    Raises:
        UsageError: if there are too many.
    """
    if count > most:
        raise UsageError(
            f"annotations {path} hold {count} features, more than {most}. Export the "
            "areas that people drew, not the cells that a program found"
        )


def parse_annotations(
    features: Sequence[Any], origin: str, *, points: bool = False
) -> list[Annotation]:
    """Make annotations from GeoJSON features; see `read_annotations`.

    Args:
        features: the features.
        origin: name of the file, for the message.
        points: true to read points, too; each point of a MultiPoint is an annotation.

    Raises:
        UsageError: if one of the features is no polygon or has no class.
    """
    return [
        annotation
        for k, feature in enumerate(features, start=1)
        for annotation in _annotations(feature, f"{origin}, feature {k}", points=points)
    ]


def _unpacked(data: bytes, most_bytes: int) -> bytes:
    """Unpack data that is packed with gzip, up to a size (B); other data stays as it is."""
    if data[:2] != b"\x1f\x8b":
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        plain = file.read(most_bytes + 1)
    if len(plain) > most_bytes:
        raise ValueError(f"it unpacks to more than {most_bytes} bytes")
    return plain


def region_boxes(annotations: Sequence[Annotation]) -> list[Box]:
    """Boxes of the regions that annotations make (px of level 0), sorted and without overlap.

    The boxes are those of the outer frames, or of the annotations and the surroundings of points if
    there are no frames.
    Overlapping boxes are joined, large ones are cut into parts of `_PART_PX`, and parts without an
    annotation are left out.
    """
    areas = [annotation.surroundings for annotation in annotations if annotation.label is not None]
    frames = [annotation.box for annotation in annotations if annotation.label is None]
    joined = _edges(frames or areas)
    count = 0  # number of columns in use
    for box in frames or areas:
        while (touching := _overlap(joined[:, :count], box)).any():
            box = reduce(_union, map(_box, joined[:, :count][:, touching].T), box)  # noqa: PLW2901 - it grows
            rest = joined[:, :count][:, ~touching]
            count = rest.shape[1]
            joined[:, :count] = rest
        joined[:, count] = box.y, box.x, box.y_stop, box.x_stop
        count += 1
    parts = (
        Box(y, x, _PART_PX, _PART_PX).intersect(box)
        for box in map(_box, joined[:, :count].T)
        for y in range(box.y, box.y_stop, _PART_PX)
        for x in range(box.x, box.x_stop, _PART_PX)
    )
    edges = _edges([annotation.box for annotation in annotations if annotation.label is not None])
    return sorted(part for part in parts if _overlap(edges, part).any())


def _edges(boxes: Sequence[Box]) -> Edges:
    return (
        np.array([(box.y, box.x, box.y_stop, box.x_stop) for box in boxes], np.int64)
        .reshape(-1, 4)
        .T.copy()
    )


def _box(column: Edges) -> Box:
    y, x, y_stop, x_stop = map(int, column)
    return Box(y, x, y_stop - y, x_stop - x)


def _overlap(edges: Edges, box: Box) -> npt.NDArray[np.bool_]:
    """True for each box that has an area in common with another box, bool ``[n]``."""
    y, x, y_stop, x_stop = edges
    in_y = np.minimum(y_stop, box.y_stop) > np.maximum(y, box.y)
    in_x = np.minimum(x_stop, box.x_stop) > np.maximum(x, box.x)
    return np.asarray(in_y & in_x)


def class_codes(scheme: ClassScheme) -> dict[str, int]:
    """Code of each class name, as `normalize_name` gives the names.

    The names are those of BCSS and of QuPath's own classes, if the scheme knows their codes, and
    those of the scheme's own classes. A scheme's own class comes before another of the same name.
    """
    general = {**{normalize_name(name): code for name, code in BCSS_CODES.items()}, **_QUPATH_CODES}
    first = {k: code for code, k in sorted(scheme.sources.items(), reverse=True)}
    own = {
        normalize_name(info.name): info.code if scheme.sources.get(info.code) == k else first[k]
        for k, info in enumerate(scheme.classes)
    }
    return {name: code for name, code in general.items() if code in scheme.sources} | own


def normalize_name(name: str) -> str:
    """Write a class name in lower case, with underscores instead of spaces and hyphens."""
    return "_".join(name.replace("-", " ").casefold().split())


def _annotations(feature: Any, origin: str, *, points: bool) -> Iterator[Annotation]:
    """Make annotations from a GeoJSON feature: one, or one for each of its points."""
    try:
        properties = feature.get("properties") or {}
        geometry = feature["geometry"]
        kind, coordinates = geometry["type"], geometry["coordinates"]
        label = class_name(properties)
        name = str(properties.get("name") or "")
        feature_id = str(feature.get("id") or "").lower()
        marks: list[Ring] = []
        polygons: tuple[tuple[Ring, ...], ...] = ()
        if points and kind in ("Point", "MultiPoint"):
            marks = list(_ring([coordinates] if kind == "Point" else coordinates))
        elif kind in ("Polygon", "MultiPolygon"):
            polygons = tuple(
                tuple(map(_ring, rings))
                for rings in ([coordinates] if kind == "Polygon" else coordinates)
            )
        else:
            raise UsageError(
                f"{origin} is a {kind}; only polygons have an inside. Leave it out of the export"
            )
        if not marks and (not polygons or not all(polygons)):
            raise ValueError("a polygon without points")
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UsageError(
            f"{origin} is not a GeoJSON feature with a polygon ({type(error).__name__}: {error}). "
            "Export the annotations again"
        ) from error
    if polygons and _is_frame(label, name):
        yield Annotation(None, polygons, feature_id)
    elif label is None:
        raise UsageError(
            f"{origin} ({name or 'without a name'}) has no class. Give it one in QuPath: 'Ignore*' "
            "if it is none, 'Region*' if it is the frame around the annotated area"
        )
    elif polygons:
        yield Annotation(label, polygons, feature_id)
    for y, x in marks:
        yield Annotation(str(label), (), feature_id, point=(float(y), float(x)))


def _is_frame(label: str | None, name: str) -> bool:
    """True for the outer frame of a region, by its class or its name."""
    if label:
        return normalize_name(label) in _FRAMES
    return normalize_name(name).startswith(("roi", "region"))


def _ring(points: Any) -> Ring:
    """Make a ring from the points of a GeoJSON polygon, which are x and y."""
    ring = np.asarray(points, np.float64)
    if ring.ndim != 2 or ring.shape[0] < 1 or ring.shape[1] < 2:
        raise ValueError("a ring that is not a list of x and y")
    ring = ring[:, 1::-1]
    if not (np.abs(ring) <= MAX_SIDE_PX).all():  # true for NaN, too
        raise ValueError(
            f"a point that lies on no slide (further out than {MAX_SIDE_PX} px, or no number)"
        )
    return ring


def class_name(properties: dict[str, Any]) -> str | None:
    """Class name of a feature, or None.

    QuPath writes a string, or an object with ``name`` or ``names``. (``PathClassTypeAdapter``)
    """
    value = properties.get("classification")
    if isinstance(value, dict):
        value = value.get("name") or ": ".join(value.get("names") or ())
    return str(value) if value else None


def _union(one: Box, other: Box) -> Box:
    """Smallest box that covers two boxes."""
    y, x = min(one.y, other.y), min(one.x, other.x)
    return Box(y, x, max(one.y_stop, other.y_stop) - y, max(one.x_stop, other.x_stop) - x)


def _area_px(ring: Ring) -> float:
    """Area inside a ring, by the shoelace formula."""
    (y, x), (y_next, x_next) = ring.T, np.roll(ring, -1, axis=0).T
    return float(abs(np.sum(x * y_next - x_next * y)) / 2)
