"""Regions that a folder has taken from another one, as the history of its reviews tells."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from noctile.pipeline.untrusted import parse_json, read_lines

_MAX_BYTES, _LINE_BYTES, _MAX_VALUES = 2**28, 2**25, 2**20
"""Largest history and line of it that are read (B), and most values in a line."""


def taken_regions(history: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all regions that were ever taken from another folder, by slide.

    A region among them that no longer stands was deleted by a reviewer. Lines that cannot be read
    are passed over: at worst such a region is taken again, and none is lost.

    Args:
        history: ``review/history.jsonl`` of a folder of results.

    Returns:
        GeoJSON features, by the id of their slide.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for event in _taken_events(history):
        slide_id, features = event.get("slide_id"), event.get("features")
        if isinstance(slide_id, str) and isinstance(features, list):
            regions = (f for f in features if isinstance(f, dict) and "geometry" in f)
            found.setdefault(slide_id, []).extend(regions)
    return found


def _taken_events(history: Path) -> Iterator[dict[str, Any]]:
    """Events of regions and rows that were taken; a history that cannot be read has none."""
    if history.is_symlink():
        return
    with suppress(OSError, ValueError):
        for line in read_lines(history, _MAX_BYTES, _LINE_BYTES):
            if line is None or '"taken"' not in line:
                continue
            with suppress(ValueError):
                event = parse_json(line, _MAX_VALUES)
                if isinstance(event, dict) and event.get("event") == "taken":
                    yield event
