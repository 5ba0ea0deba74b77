"""Reviews of slides: statuses, regions that are left out, and the areas of the rest."""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.errors import UsageError
from noctile.pipeline.qupath import properties
from noctile.pipeline.roi.cut import Cut, strips
from noctile.pipeline.truth.geojson import Annotation, parse_annotations
from noctile.pipeline.untrusted import printable

if TYPE_CHECKING:
    from noctile.pipeline.export.source import ExportSource

STATUSES = ("", "accepted", "rejected", "look_again")
"""Statuses of a review; the first is none."""

NOTE_CHARS, REVIEWER_CHARS = 10_000, 200
"""Longest note, and longest name of a reviewer (characters)."""

DISAGREEMENT = "disagreement"
"""Status of a slide whose reviewers do not agree."""

REASONS = {
    "pen": (0, 90, 181),
    "fold": (153, 79, 0),
    "wrong_block": (93, 58, 155),
    "other": (85, 85, 85),
}
"""Reasons for which a region is left out, with the colour of each (R, G, B, 0..255)."""

MOST_REGIONS, MOST_POINTS = 1_000, 200_000
"""Most regions of a slide, and most numbers in the coordinates of all of them."""


@dataclass(frozen=True, slots=True)
class ReviewedAreas:
    """Areas of a slide without the regions that reviewers leave out.

    Attributes:
        excluded_area_mm2: area of the analysed pixels in these regions (mm2).
        reviewed_tissue_area_mm2: area of all other analysed pixels (mm2).
        reviewed_tumor_area_mm2: area of the tumor outside these regions (mm2).
    """

    excluded_area_mm2: float
    reviewed_tissue_area_mm2: float
    reviewed_tumor_area_mm2: float


def combined_status(statuses: Iterable[str]) -> str:
    """Status of a slide: that of all its reviewers, `DISAGREEMENT`, or "" if there is none."""
    found = {status for status in statuses if status}
    return DISAGREEMENT if len(found) > 1 else next(iter(found), "")


def check_review(reviewer: str, status: str, note: str) -> None:
    """Check the name of a reviewer, and what he or she says of a slide.

    Raises:
        UsageError: if the name or the note is too long or is no plain text, or the status is none.
    """
    name = reviewer.strip()
    if not name or name != reviewer or not name.isprintable() or len(name) > REVIEWER_CHARS:
        raise UsageError(
            f"the name of a reviewer has 1 to {REVIEWER_CHARS} printable characters, and no space "
            f"at its ends; {printable(reviewer)!r} has not"
        )
    if status not in STATUSES:
        raise UsageError(f"status must be one of {', '.join(STATUSES[1:])}, or empty")
    if len(note) > NOTE_CHARS:
        raise UsageError(f"the note is longer than {NOTE_CHARS} characters")
    if note != note.encode("utf-8", "ignore").decode():
        raise UsageError("the note must be text in UTF-8")


def excluded_regions(collection: Mapping[str, Any], origin: str) -> list[Annotation]:
    """Read the regions of a GeoJSON FeatureCollection (px of level 0, as QuPath opens the slide).

    Args:
        collection: the FeatureCollection.
        origin: name of the file, for the message.

    Raises:
        UsageError: if it is none, a feature is no polygon, or there are too many of them.
    """
    features = collection.get("features")
    if not isinstance(features, list):
        raise UsageError(f"{origin} holds no list of features; it is no GeoJSON FeatureCollection")
    if len(features) > MOST_REGIONS:
        raise UsageError(f"{origin} holds {len(features)} regions, more than {MOST_REGIONS}")
    if sum(map(_numbers, features)) > MOST_POINTS:
        raise UsageError(
            f"{origin} holds more than {MOST_POINTS} coordinates; simplify its regions"
        )
    return parse_annotations([_with_class(feature) for feature in features], origin)


def _with_class(feature: Any) -> Any:
    """Feature whose class is one that every region may have; its own class is for readers."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    return {"geometry": geometry, "properties": {"classification": "excluded"}}


def _numbers(value: Any) -> int:
    """Count the numbers in the coordinates of a feature."""
    if isinstance(value, dict):
        geometry = value.get("geometry")
        return _numbers(geometry.get("coordinates")) if isinstance(geometry, dict) else 0
    return sum(map(_numbers, value)) if isinstance(value, list) else 1


def region_feature(feature: Mapping[str, Any], reviewer: str, time: str) -> dict[str, Any]:
    """Make the feature that is saved of a region that a reviewer has drawn.

    Args:
        feature: GeoJSON feature with ``geometry``, and the reason as name of its class.
        reviewer: name of the reviewer.
        time: time of the change, ISO 8601 in UTC.

    Raises:
        UsageError: if its reason is unknown, or it is no polygon.
    """
    excluded_regions({"features": [feature]}, "the region")
    about = feature.get("properties")
    about = about if isinstance(about, dict) else {}
    kind = about.get("classification")
    reason = kind.get("name") if isinstance(kind, dict) else kind
    if not isinstance(reason, str) or reason not in REASONS:
        raise UsageError(f"a region is left out for one of {', '.join(REASONS)}")
    metadata = about.get("metadata")
    drawn = metadata.get("time") if isinstance(metadata, dict) else None
    metadata = {"reviewer": reviewer, "time": drawn if isinstance(drawn, str) else time}
    return {
        "type": "Feature",
        "id": _uuid(feature.get("id")),
        "geometry": {key: feature["geometry"][key] for key in ("type", "coordinates")},
        "properties": properties(reason, REASONS[reason], metadata=metadata),
    }


def _uuid(value: Any) -> str:
    text = str(value)
    return text if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) else _new_uuid()


def _new_uuid() -> str:
    return str(uuid.uuid4())


def reviewer_of(feature: Any) -> str:
    """Name of the reviewer of a feature; "" if it has none, as after an edit elsewhere."""
    for key in ("properties", "metadata", "reviewer"):
        feature = feature.get(key) if isinstance(feature, dict) else None
    return feature if isinstance(feature, str) else ""


def reviewed_areas(source: "ExportSource", regions: Sequence[Annotation]) -> ReviewedAreas:
    """Measure a slide without some regions, block by block.

    A pixel of the label map is left out if its centre lies in a region. A pixel in several regions
    counts once. A region that crosses itself holds all that its outline goes round.

    Args:
        source: result of the slide.
        regions: regions that are left out (px of level 0, as QuPath opens the slide).

    Raises:
        StoreError: if the masks or the summary cannot be read.
        UsageError: if the regions are so many or so long that it would take minutes.
    """
    layout, counts = source.store.layout, excluded_pixels(source, regions)
    mm2 = layout.frame.mpp_y * layout.frame.mpp_x / 1e6
    tumor = [info.code for info in layout.classes if info.role == "tumor"]
    excluded = float(counts[1:].sum() * mm2)
    return ReviewedAreas(
        round(excluded, 6),
        round(max(0.0, source.figure("tissue_area_mm2") - excluded), 6),
        round(max(0.0, source.figure("tumor_area_mm2") - float(counts[tumor].sum() * mm2)), 6),
    )


def excluded_pixels(source: "ExportSource", regions: Sequence[Annotation]) -> Int64:
    """Count the pixels of a slide in some regions by their labels, int64 ``[256]``.

    Only blocks that a region touches are read. See `reviewed_areas` for the arguments and errors.
    """
    cut, counts = regions_cut(source, regions), np.zeros(256, np.int64)
    for row, col in source.store.stored_shards() if regions else ():
        for box in filter(cut.touches, strips(source.store.layout.shard_box(row, col))):
            labels = source.store.read(box)
            counts += np.bincount(labels[cut.inside(box)], minlength=256)
    return counts


def regions_cut(source: "ExportSource", regions: Sequence[Annotation]) -> Cut:
    """Part of the label map of a slide that some regions cover; see `reviewed_areas`."""
    scale_y, scale_x = source.qupath_scale
    polygons = [rings for region in regions for rings in region.polygons]
    return Cut(polygons, (1 / scale_y, 1 / scale_x), source.store.layout.frame.box)
