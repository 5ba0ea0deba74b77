"""Description of one slide for the browser: its layers, classes, figures, flags and foci."""

import math
from typing import Any

from noctile.pipeline.columns import FIGURES
from noctile.pipeline.flags import flag_meaning
from noctile.workflows.viewer.confined import confined_document
from noctile.workflows.viewer.masks import RAMPS
from noctile.workflows.viewer.views import SlideView


def slide_document(view: SlideView) -> dict[str, Any]:
    """Describe a slide with plain values; lengths in px of level 0 and in um.

    Raises:
        StoreError: if the result cannot be read.
    """
    summary, heat = view.result.summary, view.heat
    bounds, mpp = _numbers(summary.get("bounds_px"), 4), _numbers(summary.get("mpp"), 2)
    flags = summary.get("qc_flags", summary.get("flags", ()))
    return {
        "slide_id": view.slide_id,
        "path": str(view.path),
        "version": view.version,
        "source": view.source,
        "notice": view.notice,
        "origin_px": bounds[:2],
        "level0": {"height": bounds[2], "width": bounds[3], "mpp_y": mpp[0], "mpp_x": mpp[1]},
        "slide": view.image.layer.to_json(),
        "mask": view.labels.layer.to_json(),
        "heat": heat.layer.to_json() if heat else None,
        "heat_colors": {name: [list(color) for color in ramp] for name, ramp in RAMPS.items()},
        "classes": _classes(view),
        "figures": {column.name: _finite(summary.get(column.name)) for column in FIGURES},
        "units": {column.name: column.unit for column in FIGURES},
        "confined": confined_document(view),
        "qc_flags": [{"name": flag, "meaning": flag_meaning(flag)} for flag in flags],
    }


def focus_list(view: SlideView) -> list[dict[str, Any]]:
    """Tumor foci of a slide, the largest first, in level-0 px from the slide's corner.

    Raises:
        StoreError: if the label map cannot be read.
    """
    frame, foci = view.foci()
    mpp_y, mpp_x = _numbers(view.result.summary.get("mpp"), 2)
    ratio_y, ratio_x = frame.mpp_y / (mpp_y or 1), frame.mpp_x / (mpp_x or 1)
    return [
        {
            "y": round(focus.box.y * ratio_y, 3),
            "x": round(focus.box.x * ratio_x, 3),
            "height": round(focus.box.height * ratio_y, 3),
            "width": round(focus.box.width * ratio_x, 3),
            "area_mm2": round(focus.area_mm2, 6),
        }
        for focus in foci
    ]


def _classes(view: SlideView) -> list[dict[str, Any]]:
    areas = view.result.area_mm2
    return [
        {
            "code": code,
            "name": info.name,
            "color": list(info.color),
            "role": info.role,
            "area_mm2": _finite(areas.get(info.name)),
        }
        for code, info in view.result.classes.items()
    ]


def _numbers(values: Any, count: int) -> list[float]:
    """Numbers of a summary; zeros if it does not hold them."""
    listed = values if isinstance(values, list) and len(values) == count else [0] * count
    return [value if isinstance(value, int | float) and _finite(value) else 0 for value in listed]


def _finite(value: Any) -> Any:
    """The value; None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
