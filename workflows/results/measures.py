"""Spatial measures of finished slides: from their summaries, else computed once and cached.

Results of earlier versions have none, or others. Theirs are cached in ``.measures/``, so that a
finished result stays as it is.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.spatial.measures import SPATIAL_VERSION, SpatialMeasures
from noctile.workflows.results.files import read_whole_json, write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.shared_files import locked


def measures_of(
    results: ResultsFolder, slide_id: str, summary: Mapping[str, Any]
) -> SpatialMeasures:
    """Return the spatial measures of a finished slide, by the definitions of this version.

    A cache that is damaged, or belongs to another result or version, is made again. A folder that
    cannot be written has no cache.

    Args:
        results: folder of results.
        slide_id: id of the slide.
        summary: content of its ``summary.json``.

    Raises:
        StoreError: if the masks cannot be read, or do not fit the summary.
    """
    if found := _parsed(summary.get("measures")):
        return found
    path = results.measures(slide_id)
    if found := _cached(path, summary.get("key")):
        return found
    measured = _measured(results.slide(slide_id).mask, summary)
    with suppress(StoreError, OSError), locked(path.parent):  # else they are computed again
        write_json(path, {"key": summary.get("key"), "measures": measured.to_json()})
    return measured


def _parsed(values: Any) -> SpatialMeasures | None:
    """Measures from plain values; None if they cannot be used, or are of another version."""
    if not isinstance(values, Mapping) or values.get("version") != SPATIAL_VERSION:
        return None
    try:
        return SpatialMeasures.from_json(values)
    except (LookupError, ValueError):
        return None


def _cached(path: Path, key: Any) -> SpatialMeasures | None:
    """Measures that were computed for a result with this key; None if there are none."""
    try:
        cached = read_whole_json(path) or {}
    except StoreError:
        return None
    return _parsed(cached.get("measures")) if cached.get("key") == key else None


def _measured(mask: Path, summary: Mapping[str, Any]) -> SpatialMeasures:
    """Compute the measures of a slide.

    Raises:
        StoreError: if the masks cannot be read, or do not fit the summary.
    """
    # These load Zarr and scipy.ndimage.
    from noctile.pipeline.masks.store import MaskStore  # noqa: PLC0415
    from noctile.pipeline.spatial.classes import codes_of, tissue_kinds  # noqa: PLC0415
    from noctile.pipeline.spatial.compute import measure_space  # noqa: PLC0415
    from noctile.pipeline.spatial.foci import focus_areas_mm2  # noqa: PLC0415

    store = MaskStore.open(mask)
    classes = store.layout.classes
    areas = summary.get("class_area_mm2", {})
    if missing := [info.name for info in classes if info.name not in areas]:
        raise StoreError(
            f"{mask} has the classes {', '.join(missing)}, which its summary.json lacks; run the "
            "slide again"
        )
    return measure_space(
        store, areas, focus_areas_mm2(store, codes_of(tissue_kinds(classes).tumor))
    )
