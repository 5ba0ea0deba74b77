"""Report of a folder of results: ``index.html``, and small pictures in ``index_files/``."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from noctile.pipeline.arrays import Float64
from noctile.pipeline.errors import StoreError
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.region_table import are_confined
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import printable, read_bytes
from noctile.workflows.results.events import Event, Finished, Started
from noctile.workflows.results.files import write_atomic
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import read_events
from noctile.workflows.results.ledger_state import LedgerState
from noctile.workflows.results.run_records import last_usage, run_facts

_PAUSE, _PAUSE_S = 100, 120.0
"""Shortest pause between two reports of a run at work: a multiple of the duration of the last one
(1 % of the time of the run's own process), and at least this (s)."""

_THREADS = 4
_COMMENT = b"noctile"
_HEAD_BYTES, _PAGE_BYTES = 1024, 2**28


class Report:
    """Writer of the report of a run; a report that cannot be written never fails the run.

    Args:
        results: folder of results.
    """

    def __init__(self, results: ResultsFolder) -> None:
        self._results = results
        self._due = time.monotonic() + _PAUSE_S

    def write(self, *, at_work: bool = False) -> str:
        """Write the report from the tables that stand in the folder.

        Returns:
            Reason why it was not written; "" if it was.
        """
        begun, problem = time.monotonic(), ""
        try:
            table = read_parquet(self._results.cohort_parquet, ["slide_id", "status"])
            path = self._results.regions_parquet
            regions = read_parquet(path, ["slide_id"]) if are_confined(table) else None
            write_report(self._results, table, regions, at_work=at_work)
        except Exception as error:  # noqa: BLE001 - a page must not cost a night's work
            problem = f"the report {self._results.index} was not written: {printable(str(error))}"
        now = time.monotonic()
        self._due = now + max(_PAUSE_S, _PAUSE * (now - begun))
        return problem

    def write_if_due(self) -> None:
        """Write it if that costs little of the time since the last one."""
        if time.monotonic() >= self._due:
            self.write(at_work=True)


def write_report(
    results: ResultsFolder, table: pa.Table, regions: pa.Table | None, *, at_work: bool = False
) -> None:
    """Write ``index.html`` and ``index_files/``; only pictures of changed slides are made.

    Args:
        results: folder of results.
        table: row of each slide.
        regions: row of each region of interest; None without any.
        at_work: True if a run is at work in the folder.

    Raises:
        StoreError: if the file system refuses, or a file that Noctile has not written is in the
            way.
    """
    from noctile.pipeline.report.report_page import Report as Content  # noqa: PLC0415 - jinja2 is slow to load
    from noctile.pipeline.report.report_page import report_page  # noqa: PLC0415

    _check_own(results)
    rows = table.to_pylist()
    done = [row["slide_id"] for row in rows if row["status"] == "done"]
    pictures = _write_thumbnails(results, [i for i in done if not slide_id_problem(i)])
    name = results.path.resolve().name
    finished = _finished_h(results.ledger)
    content = Content(
        name,
        rows,
        run_facts(results),
        finished,
        at_work,
        datetime.now(UTC),
        last_usage(results),
        regions.to_pylist() if regions else [],
    )
    page = report_page(content, pictures).encode("utf-8", "backslashreplace")
    write_atomic(results.index, lambda path: path.write_bytes(page))


def is_report(path: Path) -> bool:
    """Tell if a file is a report that Noctile has written."""
    from noctile.pipeline.report.report_page import MARK  # noqa: PLC0415 - jinja2 is slow to load

    with suppress(OSError):
        return MARK.encode() in read_bytes(path, _PAGE_BYTES)[:_HEAD_BYTES]
    return False


def _check_own(results: ResultsFolder) -> None:
    """Check that the page and its folder are Noctile's own, or are missing.

    Raises:
        StoreError: if they are not.
    """
    index, folder = results.index, results.index_files
    if (index.is_symlink() or index.exists()) and (index.is_symlink() or not is_report(index)):
        raise StoreError(f"{index} was not written by noctile report; rename it, or move it away")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StoreError(f"{folder} is no folder of noctile; rename it, or move it away")


def _write_thumbnails(results: ResultsFolder, slide_ids: Sequence[str]) -> set[str]:
    """Write the pictures that are missing or old; return the ids of the slides that have one."""
    if slide_ids:
        results.index_files.mkdir(exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        made = list(pool.map(partial(_write_thumbnail, results), slide_ids))
    return {slide_id for slide_id, there in zip(slide_ids, made, strict=True) if there}


def _write_thumbnail(results: ResultsFolder, slide_id: str) -> bool:
    """Write the picture of a slide if its preview has changed; tell if there is one.

    A preview that cannot be read, and a file of another program, leave the slide without one.
    """
    from noctile.pipeline.report.thumbnails import comment_of, thumbnail  # noqa: PLC0415

    preview, path = results.slide(slide_id).preview, results.index_files / f"{slide_id}.jpg"
    try:
        status = preview.stat()
        key = b"%s %d %d" % (_COMMENT, status.st_size, status.st_mtime_ns)
        found = comment_of(path)
        if found == key:
            return True
        if path.exists() and not (found or b"").startswith(_COMMENT):
            return False
        content = thumbnail(preview, key)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)  # not synced: the next report makes a lost picture again
    temporary.replace(path)
    return True


def _finished_h(ledger: Path) -> Float64:
    """End of each slide of the last run (h since its start), float64 ``[n]``."""
    times: list[Event] = []
    with suppress(OSError):
        for event in read_events(ledger, LedgerState()):
            if isinstance(event, Started):
                times = [event]
            elif isinstance(event, Finished) and times:
                times.append(event)
    moments = [moment for event in times if (moment := _moment(event.time)) is not None]
    hours = [(moment - moments[0]).total_seconds() / 3600 for moment in moments[1:]]
    return np.array([hour for hour in hours if hour >= 0], np.float64)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
