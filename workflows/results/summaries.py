"""Check that a slide's summary holds values that the tables can take.

A summary may come from another person, and its checksums with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from noctile.pipeline.columns import FIGURES, INTEGER, MEASURES, NUMBER, ORIGIN

_FROM_ELSEWHERE = {"mpp_y", "mpp_x", "qc_flags", "seconds"}
"""Columns that no value of a summary fills under the same name."""

_MOST_CLASSES, _MOST_FLAGS, _MOST_REGIONS = 255, 255, 1_000
_LARGEST = 2**63
"""Smallest whole number that no table can hold."""


def is_sound(summary: Mapping[str, Any]) -> bool:
    """Tell if the values of a summary have the types that the tables need; some may be missing."""
    areas, mpp = summary.get("class_area_mm2", {}), summary.get("mpp", (0.0, 0.0))
    measures = summary.get("measures", {})
    flags = summary.get("qc_flags", summary.get("flags", ()))
    names = (summary.get(name, "") for name in ("key", "path"))
    if not all(map(_is_text, names)) or not isinstance(areas, dict) or len(areas) > _MOST_CLASSES:
        return False
    if not all(map(_is_text, areas)) or not all(map(_is_number, areas.values())):
        return False
    if not isinstance(mpp, Sequence) or len(mpp) != 2 or not all(map(_is_number, mpp)):
        return False
    if not isinstance(flags, Sequence) or len(flags) > _MOST_FLAGS:
        return False
    if not isinstance(measures, dict) or not are_regions(summary.get("regions", [])):
        return False
    tests = {INTEGER: _is_integer, NUMBER: _is_number}
    values = (
        (source.get(column.name), tests.get(column.type, _is_text))
        for source, columns in ((summary, (*FIGURES, *ORIGIN)), (measures, MEASURES))
        for column in columns
        if column.name not in _FROM_ELSEWHERE
    )
    return all(map(_is_text, flags)) and all(v is None or test(v) for v, test in values)


def are_regions(values: Any) -> bool:
    """Tell if values are those of regions of interest, see `RegionAreas`."""
    if not isinstance(values, list) or len(values) > _MOST_REGIONS:
        return False
    return all(isinstance(value, dict) and _is_region(value) for value in values)


def _is_region(values: Mapping[str, Any]) -> bool:
    areas, share = values.get("class_area_mm2"), values.get("tumor_fraction_of_tissue")
    if not isinstance(areas, dict) or len(areas) > _MOST_CLASSES or not all(map(_is_text, areas)):
        return False
    names = values.get("region"), values.get("region_class") or ""
    figures = (values.get(f"{name}_area_mm2") for name in ("region", "tissue", "tumor"))
    numbers = (*figures, *areas.values(), 0.0 if share is None else share)
    return all(map(_is_text, names)) and all(map(_is_number, numbers))


def _is_text(value: Any) -> bool:
    """Tell if a value is text in UTF-8; JSON can hold half a character."""
    return isinstance(value, str) and value == value.encode("utf-8", "ignore").decode()


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_integer(value)
