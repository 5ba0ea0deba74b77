"""Measures of one slide that need distances and neighbourhoods, with the areas behind them.

Their definitions and sources are in docs/measures.md. Ratios of several slides are made of the sums
of their areas, never of their ratios.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SPATIAL_VERSION = 1
"""Version of the definitions; it is raised when a figure of the same label map changes."""


FOCUS_EDGES_MM2 = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Smallest area of the foci in each bin of their sizes (mm2), two bins a decade. The counts of
several slides add up to those of a cohort."""

STROMA_CUT = 0.5
"""Tumor-stroma ratio above which a tumor is ``stroma_high`` (van Pelt et al., Virchows Arch 2018,
473:405: stroma-high above 50 %, stroma-low up to 50 %)."""

STROMA_HIGH, STROMA_LOW = "stroma_high", "stroma_low"

_LENGTHS = {"point_um": 2, "worst_field_um": 2, "foci_by_size": len(FOCUS_EDGES_MM2)}
_NEVER_NONE = {"version", "foci_area_mm2", "foci_by_size"}


@dataclass(frozen=True, slots=True)
class SpatialMeasures:
    """Spatial measures of one slide.

    A figure is None if the model lacks a class that it needs, or if it is not defined on this
    slide; `not_measured` has the reason of each.

    Attributes:
        version: `SPATIAL_VERSION` of the definitions.
        point_um: distance (y, x) of the points at which stroma was measured (um).
        bed_mm2: analysed area of the tumor bed (mm2).
        bed_tumor_mm2: area of invasive tumor in the bed (mm2).
        bed_stroma_mm2: area of stroma in the bed (mm2).
        bed_inflammatory_mm2: area of inflammatory cells in the bed (mm2).
        border_stroma_mm2: area of stroma near the tumor border (mm2).
        border_inflammatory_mm2: area of inflammatory cells near the tumor border (mm2).
        necrosis_mm2: area of necrosis on the whole slide (mm2).
        foci_area_mm2: area of all tumor foci (mm2).
        foci_by_size: number of tumor foci from each edge of `FOCUS_EDGES_MM2` to the next.
        median_focus_mm2: median area of the tumor foci (mm2).
        p90_focus_mm2: 90th percentile of the areas of the tumor foci (mm2).
        largest_focus_share: area of the largest focus / area of all foci, 0..1.
        tumor_stroma_ratio: stroma / (tumor + stroma) in the tumor bed, 0..1.
        tumor_stroma_class: ``stroma_high`` if that ratio is above `STROMA_CUT`, else
            ``stroma_low``.
        worst_field_tumor_stroma_ratio: the same ratio in the field with the largest one, 0..1.
        worst_field_tumor_stroma_class: class of the ratio of that field.
        worst_field_um: top left corner (y, x) of that field (um).
        stromal_inflammation_fraction: inflammatory cells / (stroma + inflammatory cells) near the
            tumor border, 0..1; a proxy of stromal TILs.
        bed_inflammation_fraction: the same in the tumor bed, 0..1.
        necrosis_fraction: necrosis / (tumor + necrosis) on the whole slide, 0..1.
        not_measured: reason why a figure is None, by the name of the figure.
    """

    version: int
    point_um: tuple[float, float] | None
    bed_mm2: float | None
    bed_tumor_mm2: float | None
    bed_stroma_mm2: float | None
    bed_inflammatory_mm2: float | None
    border_stroma_mm2: float | None
    border_inflammatory_mm2: float | None
    necrosis_mm2: float | None
    foci_area_mm2: float
    foci_by_size: tuple[int, ...]
    median_focus_mm2: float | None
    p90_focus_mm2: float | None
    largest_focus_share: float | None
    tumor_stroma_ratio: float | None
    tumor_stroma_class: str | None
    worst_field_tumor_stroma_ratio: float | None
    worst_field_tumor_stroma_class: str | None
    worst_field_um: tuple[float, float] | None
    stromal_inflammation_fraction: float | None
    bed_inflammation_fraction: float | None
    necrosis_fraction: float | None
    not_measured: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, as ``summary.json`` holds them under ``measures``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SpatialMeasures":
        """Read the values that `to_json` made.

        Raises:
            LookupError: if a value is missing (ValueError: if one is not as expected).
        """
        plain: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)}
        for name, value in plain.items():
            plain[name] = tuple(value) if isinstance(value, list) else value
            if not _is_expected(name, plain[name]):
                raise ValueError(f"{name} = {value!r:.80} is no spatial measure")
        return cls(**plain)


def _is_expected(name: str, value: Any) -> bool:
    """Tell if a value has the type of its field."""
    if name == "not_measured":
        texts = [*value, *value.values()] if isinstance(value, dict) else [None]
        return all(isinstance(text, str) for text in texts)
    if name in _LENGTHS and value is not None:
        right = isinstance(value, tuple) and len(value) == _LENGTHS[name]
        return right and all(_is_number(number) for number in value)
    if name.endswith("_class"):
        return value in (None, STROMA_HIGH, STROMA_LOW)
    return _is_number(value) or (value is None and name not in _NEVER_NONE)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
