"""Points of an audit on their way to QuPath and back, as GeoJSON, one file a slide.

A point goes out without the prediction. It comes back with a class, and is known by its UUID.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.export.names import file_stems
from noctile.pipeline.qupath import classification
from noctile.pipeline.truth.geojson import MAX_BYTES, class_name, normalize_name, read_features
from noctile.pipeline.untrusted import printable, read_bytes
from noctile.workflows.results.audit_rows import SPECIAL_ANSWERS, AuditClass, AuditPoint
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.files import read_json, write_json
from noctile.workflows.results.layout import ResultsFolder

MOST_MOVED_UM: Final = 2.0
"""Largest distance by which a point may have moved (um). A tenth of the distance between points:
more is another place, which the design has not drawn."""

_MOST_NAMED = 20
"""Most mistakes that a message names."""

PixelSize = tuple[float, float]
"""Height and width of a level-0 pixel of a slide (um)."""


def point_uuid(point: AuditPoint, key: str) -> str:
    """UUID of a point, from its name and position and the content key of its slide's result."""
    name = f"noctile:audit:{key}:{point.point_id}:{point.y_um}:{point.x_um}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def export_points(
    results: ResultsFolder, audits: Audits, out: Path, reader: str | None = None
) -> list[Path]:
    """Write points as GeoJSON for QuPath, one file for each slide that has some and a result.

    Args:
        results: folder of results.
        audits: its audit.
        out: folder of the files; made if it is missing. A file that exists is not replaced: it may
            hold answers.
        reader: None for all points without a class, to be answered; or a reader, for the points
            that this reader gave a class, with the class, to train on.

    Returns:
        The files.

    Raises:
        UsageError: if a file exists, the reader has given no class, or all results have gone.
        StoreError: if a file of the audit or a result is damaged.
    """
    design, points = audits.design(), audits.points()
    classes: dict[str, AuditClass] = {}
    if reader is not None:
        known = {info.name: info for info in design.classes}
        mine = (row for row in audits.answers() if row.reader == reader)
        classes = {row.point_id: known[row.answer] for row in mine if row.answer in known}
        points = [point for point in points if point.point_id in classes]
    if not points:
        raise UsageError(
            f"{printable(str(reader))} has given no point a class, so nothing is written"
        )
    points = [point for point in points if results.slide(point.slide_id).summary.exists()]
    if not points:
        raise UsageError(f"no slide with points has a result any more; copy {results.slides} back")
    files = _files(results, points, out)
    keys = {slide.slide_id: slide.key for slide in design.slides}
    for slide_id, path in files.items():
        mpp = _level0_mpp(results, slide_id)
        features = [
            _feature(point, mpp, keys[slide_id], classes.get(point.point_id))
            for point in points
            if point.slide_id == slide_id
        ]
        write_json(path, {"type": "FeatureCollection", "features": features})
    return list(files.values())


def import_answers(
    results: ResultsFolder, audits: Audits, paths: Sequence[Path], reader: str
) -> int:
    """Save the classes of points that come back from QuPath as answers of a reader.

    Points without a class have no answer yet. Areas are passed over.

    Args:
        results: folder of results.
        audits: its audit.
        paths: GeoJSON files.
        reader: name of the reader.

    Returns:
        The number of answers.

    Raises:
        UsageError: if a file cannot be read, a slide has no result any more, or one point is wrong;
            all mistakes are named, and nothing is saved.
        StoreError: if a file of the audit is damaged.
    """
    answers: dict[str, str] = {}
    mistakes: list[str] = []
    found = _Points(results, audits)
    for path in paths:
        for number, feature in enumerate(_features(path), start=1):
            try:
                answer = found.answer(feature)
                if answer and answers.setdefault(*answer) != answer[1]:
                    raise ValueError(f"point {answer[0]} has two answers")
            except ValueError as error:
                mistakes.append(f"{path.name}, feature {number}: {error}")
    if mistakes:
        more = len(mistakes) - _MOST_NAMED
        listed = mistakes[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
        raise UsageError(
            "\n  ".join([f"{len(mistakes)} points are wrong; none is saved:", *listed])
        )
    if not answers:
        raise UsageError(
            "no point has a class, so nothing is saved. Give the points classes in QuPath"
        )
    audits.save(reader, answers)
    return len(answers)


class _Points:
    """Points of an audit by their UUIDs.

    Args:
        results: folder of results.
        audits: its audit.
    """

    def __init__(self, results: ResultsFolder, audits: Audits) -> None:
        design = audits.design()
        keys = {slide.slide_id: slide.key for slide in design.slides}
        self._results, self._mpp = results, dict[str, PixelSize]()
        self._points = {point_uuid(point, keys[point.slide_id]): point for point in audits.points()}
        self._names = {
            normalize_name(name): name for name in (*SPECIAL_ANSWERS, *design.class_names)
        }

    def answer(self, feature: Any) -> tuple[str, str] | None:
        """Name and answer of a point; None for an area, and for a point without an answer.

        Raises:
            ValueError: if it is no feature, or not a point as it was written.
        """
        try:
            kind, coordinates = feature["geometry"]["type"], feature["geometry"]["coordinates"]
            name = class_name(feature.get("properties") or {})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("it is no GeoJSON feature") from error
        if kind not in ("Point", "MultiPoint"):
            return None
        point = self._points.get(str(feature.get("id") or "").lower())
        if point is None or kind != "Point":
            raise ValueError("it is no point of this audit. Points are not added, and not merged")
        self._check_position(point, coordinates)
        if name is None:
            return None
        if (answer := self._names.get(normalize_name(name))) is None:
            allowed = ", ".join(self._names.values())
            raise ValueError(
                f"class {printable(name)!r:.60} of point {point.point_id} is none of {allowed}"
            )
        return point.point_id, answer

    def _check_position(self, point: AuditPoint, coordinates: Any) -> None:
        """Check that a point has not moved.

        Raises:
            ValueError: if it has, or its coordinates are no numbers.
        """
        if point.slide_id not in self._mpp:
            self._mpp[point.slide_id] = _level0_mpp(self._results, point.slide_id)
        mpp_y, mpp_x = self._mpp[point.slide_id]
        try:
            x_um, y_um = float(coordinates[0]) * mpp_x, float(coordinates[1]) * mpp_y
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            raise ValueError(f"point {point.point_id} has no x and y") from error
        moved_um = math.dist((y_um, x_um), (point.y_um, point.x_um))
        if not moved_um <= MOST_MOVED_UM:  # true for NaN, too
            raise ValueError(
                f"point {point.point_id} has moved by {moved_um:.1f} um, more than "
                f"{MOST_MOVED_UM:g}. Put it back: its place was drawn at random"
            )


def _features(path: Path) -> list[Any]:
    """Features of a GeoJSON file.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"answers {path} cannot be read: {error}. Export them again") from error
    return read_features(content, f"answers {path}")


def _files(results: ResultsFolder, points: Sequence[AuditPoint], out: Path) -> dict[str, Path]:
    """File of each slide with points, by slide_id; a file that exists is refused."""
    paths = {
        slide_id: Path(str(_summary(results, slide_id).get("path") or slide_id))
        for slide_id in sorted({point.slide_id for point in points})
    }
    files = {slide_id: out / f"{stem}.geojson" for slide_id, stem in file_stems(paths).items()}
    if there := [str(path) for path in files.values() if path.exists()]:
        raise UsageError(
            f"{there[0]} exists and may hold answers, so nothing is written. Give a new folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}") from error
    return files


def _feature(
    point: AuditPoint, mpp: PixelSize, key: str, info: AuditClass | None
) -> dict[str, Any]:
    """GeoJSON feature of a point, at its place in the slide as QuPath opens it."""
    about: dict[str, Any] = {"objectType": "annotation", "isLocked": True, "name": point.point_id}
    if info is not None:
        about["classification"] = classification(info.name, info.color)
    at = [round(point.x_um / mpp[1], 3), round(point.y_um / mpp[0], 3)]
    return {
        "type": "Feature",
        "id": point_uuid(point, key),
        "geometry": {"type": "Point", "coordinates": at},
        "properties": about,
    }


def _summary(results: ResultsFolder, slide_id: str) -> Mapping[str, Any]:
    """Summary of a slide.

    Raises:
        UsageError: if it has gone.
        StoreError: if it is damaged.
    """
    folder = results.slide(slide_id)
    if (summary := read_json(folder.summary)) is None:
        raise UsageError(
            f"{printable(slide_id)} has no result any more; copy {folder.path} back to use its "
            "points"
        )
    return summary


def _level0_mpp(results: ResultsFolder, slide_id: str) -> PixelSize:
    """Height and width of a level-0 pixel of a slide (um).

    Raises:
        UsageError: if its summary has gone.
        StoreError: if it is damaged.
    """
    mpp = _summary(results, slide_id).get("mpp")
    try:
        mpp_y, mpp_x = (float(value) for value in mpp or ())
    except (TypeError, ValueError):
        mpp_y = mpp_x = math.nan
    if not (0 < mpp_y < math.inf and 0 < mpp_x < math.inf):
        path = results.slide(slide_id).summary
        raise StoreError(f"{path} is damaged: it has no pixel size. Copy the results again")
    return mpp_y, mpp_x
