"""List of all slides of a folder of results, for the browser."""

import math
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any

from noctile.pipeline.errors import SlideNotDoneError
from noctile.pipeline.slides.fingerprint import file_state
from noctile.pipeline.untrusted import printable
from noctile.workflows.commands.opened import Results
from noctile.workflows.results.layout import ResultsFolder

FIELDS = (
    "slide_id",
    "status",
    "reason",
    "message",
    "qc_flags",
    "group",
    "patient_id",
    "tissue_area_mm2",
    "tumor_area_mm2",
    "tumor_fraction_of_tissue",
    "tumor_foci",
    "largest_focus_mm2",
    "mean_confidence",
    "review_status",
)
"""Columns of the table of slides that the browser gets."""

_AT_LEAST_S = 2.0
"""Shortest time between two readings of the table (s): a run at work changes it all the time."""


class Listing:
    """Rows of all slides, read again when the table or the results have changed.

    Several threads may use it at once.

    Args:
        results: folder of results.
    """

    def __init__(self, results: Results) -> None:
        self._results, self._lock = results, threading.Lock()
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._state: tuple[int, ...] = ()
        self._next_read = 0.0

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Return the row of each slide by its id, sorted by id.

        Raises:
            StoreError: if the table cannot be read.
        """
        with self._lock:
            state = _state(ResultsFolder(self._results.path))
            if state != self._state and time.monotonic() >= self._next_read:
                begin = time.monotonic()
                self._rows, self._state = self._read(), state
                took = time.monotonic() - begin
                self._next_read = time.monotonic() + max(_AT_LEAST_S, 10 * took)
            return self._rows

    def path_of(self, slide_id: str) -> str:
        """Return the file of a slide, as the table names it; "" if it knows none."""
        return str(self.rows().get(slide_id, {}).get("path") or "")

    def not_done(self, slide_id: str) -> SlideNotDoneError:
        """Make the error for a slide without a result, with what the table knows of it."""
        name, row = printable(slide_id), self.rows().get(slide_id)
        if row is None:
            return SlideNotDoneError(f"{self._results.path} knows no slide {name}")
        about = ": ".join(printable(row[k]) for k in ("reason", "message") if row.get(k))
        return SlideNotDoneError(f"slide {name} has no result ({row['status']}): {about}")

    def _read(self) -> dict[str, Mapping[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table that a run is writing is no news here
            rows = self._results.table().to_pylist()
        return {row["slide_id"]: row for row in sorted(rows, key=lambda row: row["slide_id"])}


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a row for the browser: texts are never null, and no number is infinite."""
    values = {name: row.get(name) for name in FIELDS}
    texts = ("status", "reason", "message", "group", "patient_id", "review_status")
    numbers = {k: v for k, v in values.items() if isinstance(v, float)}
    return (
        values
        | {name: str(values[name] if values[name] is not None else "") for name in texts}
        | {name: v if math.isfinite(v) else None for name, v in numbers.items()}
        | {"qc_flags": list(values["qc_flags"] or ())}
    )


def _state(results: ResultsFolder) -> tuple[int, ...]:
    """Times of the last changes of the table, of the results and of the ledger (ns)."""
    files = (results.cohort_parquet, results.slides, results.ledger)
    return tuple(file_state(path)[1] for path in files)
