"""Reviews of slides as the viewer reads and saves them."""

from collections.abc import Iterable, Mapping
from typing import Any

from noctile.pipeline.errors import UsageError
from noctile.pipeline.review import MOST_REGIONS, NOTE_CHARS, STATUSES, combined_status
from noctile.pipeline.untrusted import parse_json
from noctile.workflows.results.review_rows import Review, SlideReview

_MOST_VALUES = 2**20
"""Most values in the body of a request; a region has two for each of its points."""


def review_document(review: SlideReview, *, conflict: bool = False) -> dict[str, Any]:
    """Reviews of a slide as plain values.

    Args:
        review: the reviews.
        conflict: True if a change was not saved, because these reviews are newer.
    """
    rows = [
        {"reviewer": row.reviewer, "status": row.status, "note": row.note, "time": row.time}
        for row in review.reviews
    ]
    regions = dict(review.regions)
    return {"version": review.version, "reviews": rows, "regions": regions, "conflict": conflict}


def status_of_all(rows: Iterable[Review]) -> dict[str, str]:
    """Combined status of the reviewers of each slide that has one, by its id."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.status:
            found.setdefault(row.slide_id, []).append(row.status)
    return {slide_id: combined_status(statuses) for slide_id, statuses in found.items()}


def parse_review(body: bytes) -> tuple[str, str, str]:
    """Status, note and version in the body of a request.

    Raises:
        UsageError: if it is anything else.
    """
    status, note, version = (_text(_object(body), name) for name in ("status", "note", "version"))
    if status not in STATUSES:
        raise UsageError(f"status must be one of {', '.join(STATUSES[1:])}, or empty")
    if len(note) > NOTE_CHARS:
        raise UsageError(f"the note is longer than {NOTE_CHARS} characters")
    return status, note, version


def parse_regions(body: bytes) -> tuple[list[Any], str]:
    """Regions and version in the body of a request.

    Raises:
        UsageError: if it is anything else.
    """
    values = _object(body)
    features = values.get("features")
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise UsageError("features must be a list of GeoJSON features")
    if len(features) > MOST_REGIONS:
        raise UsageError(f"a slide has at most {MOST_REGIONS} regions, not {len(features)}")
    return features, _text(values, "version")


def _object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        UsageError: if it is none, or is too large.
    """
    try:
        values = parse_json(body, _MOST_VALUES)
    except ValueError as error:
        raise UsageError(f"the request is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError("the request is not a JSON object")
    return values


def _text(values: Mapping[str, Any], name: str) -> str:
    """Value that must be text in UTF-8.

    Raises:
        UsageError: if it is not; JSON can hold half a character.
    """
    text = values.get(name)
    if not isinstance(text, str) or text != text.encode("utf-8", "ignore").decode():
        raise UsageError(f"{name} must be text")
    return text
