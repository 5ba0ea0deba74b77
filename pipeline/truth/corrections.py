"""Corrections of an exported result: the changes that a person made to it are truth.

An export of a result holds the model's own prediction. A feature that comes back as it was exported
is still that prediction, not truth. The rule has two parts:

- without frames, the features that were changed or added are truth, and so is the area that a
  changed feature gave up. A deleted feature says nothing: it may not have been exported again.
- outer frames say where the file is complete. Inside of them all features are truth, unchanged and
  deleted ones, too; outside of them nothing is.
"""

import math
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Final

import numpy as np

from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.geojson import (
    MAX_FEATURES,
    Annotation,
    check_count,
    normalize_name,
    read_annotations,
)
from noctile.pipeline.truth.raster import Ring

TOLERANCE_PX: Final = 0.1
"""Largest distance of corners that count as unmoved (px of level 0).

QuPath holds the corners of a polygon as float32 and rounds them when it writes: at 100,000 px that
moves them by up to 0.01 px. A person moves them by a pixel or more."""

MAX_EXPORTED: Final = 200_000
"""Largest number of features of an export that was corrected."""

_MOST_CANDIDATES = 8
"""Most shapes at one place that are compared; few real outlines lie upon each other."""

_UNCHANGED, _REMOVED, _CHANGED = range(3)
"""Layers in which the parts of a correction are drawn, the last on top."""


def read_truth(path: Path, exported: Path | None) -> Sequence[Annotation]:
    """Read the annotations of a slide that are truth.

    Args:
        path: GeoJSON annotations.
        exported: GeoJSON that ``noctile export`` wrote, of which ``path`` is a correction; None if
            ``path`` is no correction: then all annotations are truth.

    Raises:
        UsageError: if a file cannot be read, or is not a correction of the other.
    """
    files = [file for file in (path, exported) if file]
    try:
        stamps = tuple(file.stat().st_mtime_ns for file in files)
        if exported and path.samefile(exported):
            raise UsageError(
                f"annotations {path} are the export itself, so nothing in them is corrected. Give "
                "the corrected file and its export in two folders"
            )
    except OSError as error:
        raise UsageError(f"annotations {path} cannot be read: {error}") from error
    return _read(path, exported, stamps)


@lru_cache(maxsize=1)
def _read(path: Path, exported: Path | None, _stamps: tuple[int, ...]) -> tuple[Annotation, ...]:
    """Read the truth of a slide; that of the last slide is kept, because its regions share it."""
    if exported is None:
        return tuple(read_annotations(path, points=True))
    found = read_annotations(path, points=True, most=MAX_EXPORTED)
    before = read_annotations(exported, most=MAX_EXPORTED)
    truth = tuple(corrections(found, before, f"annotations {path}"))
    if not any(annotation.label is None for annotation in truth):
        check_count(len(truth), MAX_FEATURES, path)
    return truth


def corrections(
    annotations: Sequence[Annotation], exported: Sequence[Annotation], origin: str
) -> list[Annotation]:
    """Find the truth in corrected annotations, by the rule of this module.

    A feature is unchanged if an exported one has its class and outline, whatever its id: programs
    other than QuPath lose the ids.

    Args:
        annotations: corrected annotations.
        exported: annotations as they were exported.
        origin: name of the corrected file, for the message.

    Returns:
        Annotations to be drawn; none if nothing is truth.

    Raises:
        UsageError: if the corrected features belong to another export.
    """
    frames = [annotation for annotation in annotations if annotation.label is None]
    shapes = _Places([_corners(one) for one in exported])
    found = {
        number: _same_as(annotation, exported, shapes)
        for number, annotation in enumerate(annotations)
        if annotation.label is not None
    }
    same = {k for k in found.values() if k is not None}
    changed = [annotations[number] for number, k in found.items() if k is None]
    ids = {one.feature_id for one in changed if one.point is None} - {""}
    _check_origin(ids - {one.feature_id for one in exported}, origin)
    truth = [*frames]
    if frames:
        truth += [replace(exported[k], layer=_UNCHANGED) for k in sorted(same)]
    truth += [
        replace(one, layer=_REMOVED, removed=True)
        for k, one in enumerate(exported)
        if k not in same and (frames or one.feature_id in ids)
    ]
    return truth + [replace(annotation, layer=_CHANGED) for annotation in changed]


def _check_origin(ids: set[str], origin: str) -> None:
    """Check that ids without an exported feature are new ones of a program where people draw.

    Noctile makes ids of version 5 from the content of a result; QuPath draws those of version 4.
    """
    if strange := sorted(text for text in ids if _version(text) == 5):
        raise UsageError(
            f"{origin}: {len(strange)} features, such as {strange[0]}, come from another export of "
            "Noctile than the one given. Give the export that was corrected (--exported), or all "
            "its predictions would count as truth"
        )


def _version(text: str) -> int | None:
    """Version of a UUID, or None for another text."""
    try:
        return uuid.UUID(text).version
    except ValueError:
        return None


def _same_as(
    annotation: Annotation, exported: Sequence[Annotation], shapes: "_Places"
) -> int | None:
    """Number of the exported feature with the class and outline of an annotation, or None."""
    if annotation.point is not None:
        return None
    for k in shapes.near(_corners(annotation)):
        one = exported[k]
        if normalize_name(str(one.label)) == normalize_name(str(annotation.label)) and same_shape(
            _rings(one), _rings(annotation)
        ):
            return k
    return None


def _rings(annotation: Annotation) -> list[Ring]:
    """All rings of an annotation, without the last point of each that repeats its first."""
    return [
        ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring
        for polygon in annotation.polygons
        for ring in polygon
    ]


def _corners(annotation: Annotation) -> Ring:
    """All corners of an annotation."""
    return np.concatenate(_rings(annotation))


class _Places:
    """Shapes by place: by the corners of the boxes around them, and the number of their corners.

    Args:
        shapes: corners of each shape, float64 ``[n, 2]``, y and x (px).
    """

    def __init__(self, shapes: Sequence[Ring]) -> None:
        self._numbers: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, corners in enumerate(shapes):
            self._numbers[len(corners), *map(math.floor, _edges(corners))].append(number)

    def near(self, corners: Ring) -> Iterator[int]:
        """Numbers of the shapes whose place is close to that of another shape."""
        cells = product(
            [len(corners)],
            *(
                sorted({math.floor(value - TOLERANCE_PX), math.floor(value + TOLERANCE_PX)})
                for value in _edges(corners)
            ),
        )
        numbers = (number for cell in cells for number in self._numbers.get(cell, ()))
        return islice(numbers, _MOST_CANDIDATES)


def _edges(corners: Ring) -> list[float]:
    """Top, left, bottom and right of the box around corners (px)."""
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def same_shape(rings: Sequence[Ring], others: Sequence[Ring]) -> bool:
    """Compare two shapes, whatever the order, the direction and the first corners of their rings.

    Args:
        rings: rings of one shape, not closed, float64 ``[n, 2]``, y and x (px).
        others: rings of the other shape.

    Returns:
        True if each corner has moved by at most `TOLERANCE_PX`.
    """
    if len(rings) != len(others):
        return False
    places, free = _Places(others), set(range(len(others)))
    for ring in rings:
        near = (k for k in places.near(ring) if k in free and _same_ring(ring, others[k]))
        if (k := next(near, None)) is None:
            return False
        free.remove(k)
    return True


def _same_ring(ring: Ring, other: Ring) -> bool:
    """True if two rings have the same corners in the same or the opposite order."""
    if len(ring) != len(other):
        return False
    start = int(np.abs(other - ring[0]).max(axis=1).argmin())
    forth, back = np.roll(other, -start, axis=0), np.roll(other[::-1], start + 1, axis=0)
    return any(bool((np.abs(ring - turned) <= TOLERANCE_PX).all()) for turned in (forth, back))
