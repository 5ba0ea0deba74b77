"""Spatial measures of the slides of a cohort, also of results of earlier versions."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from noctile.pipeline.errors import StoreError
from noctile.pipeline.patients.measures import Measure
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.spatial.measures import SpatialMeasures
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.measures import measures_of

Row = dict[str, Any]

_ALWAYS: Final = "foci_area_mm2"
"""Column that every slide with spatial measures fills."""

_UNKNOWN: Final = "no slide has it"


def add_measures(results: ResultsFolder, rows: Iterable[Row]) -> list[Row]:
    """Add the spatial measures of slides whose results are of an earlier version.

    They are computed from the label maps once, and cached. A slide whose label map cannot be read
    has none.

    Args:
        results: folder of results.
        rows: rows of the table of slides.
    """
    return [row | _of_earlier(results, row) for row in rows]


def _of_earlier(results: ResultsFolder, row: Row) -> Row:
    slide_id = str(row["slide_id"])
    if row["status"] != "done" or row.get(_ALWAYS) is not None or slide_id_problem(slide_id):
        return {}
    found = _measures(results, slide_id)
    return found.to_json() if found else {}


def _measures(results: ResultsFolder, slide_id: str) -> SpatialMeasures | None:
    """Spatial measures of a slide; None if its result cannot be read."""
    try:
        summary = read_json(results.slide(slide_id).summary)
        return measures_of(results, slide_id, summary) if summary else None
    except StoreError:
        return None


def why_missing(
    results: ResultsFolder, rows: Iterable[Row], missing: Iterable[Measure]
) -> Mapping[str, str]:
    """Return the reason why no patient has a measure, by its name, as the first slide tells it.

    Args:
        results: folder of results.
        rows: rows of the table of slides.
        missing: measures that no patient has.
    """
    done = (str(row["slide_id"]) for row in rows if row["status"] == "done")
    first = next((slide_id for slide_id in done if not slide_id_problem(slide_id)), None)
    found = _measures(results, first) if first else None
    reasons = found.not_measured if found else {}
    own = {measure.name: _UNKNOWN for measure in missing}
    if "tumor_fraction_range" in own:
        own["tumor_fraction_range"] = "no patient has two slides"
    return {name: reasons.get(name, reason) for name, reason in own.items()}
