"""What `noctile status` tells: how far a run is, from what it has written down, while it goes on or
after.

Opens no slide, locks nothing, writes nothing; one pass over the ledger, and the plans of the slides
under way.
"""

import csv
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from noctile.pipeline.csv_cells import unescape_cell
from noctile.pipeline.errors import UsageError
from noctile.workflows.results.events import (
    Block,
    LedgerState,
    Segmented,
    SlideState,
    Stage,
    parse_events,
)
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import STALE_S, Holder, read_lease

WINDOW_S = 300.0
"""The pace is that of the last so many seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """Who holds the folder.

    Attributes:
        holder: which process, since when.
        silent_s: since its last sign of life (s).
        alive: whether it is; a dead one could not let the folder go.
    """

    holder: Holder
    silent_s: float
    alive: bool


@dataclass(frozen=True, slots=True)
class FailedSlide:
    """A slide that failed when it was last tried.

    Attributes:
        slide_id: of the slide.
        reason: code.
        message: for people.
        attempts: how often it has failed.
        report: file with the traceback, in the results' folder.
    """

    slide_id: str
    reason: str
    message: str
    attempts: int
    report: str


@dataclass(frozen=True, slots=True)
class BegunSlide:
    """A slide that a run has planned or done blocks of, and not ended.

    Attributes:
        slide_id: of the slide.
        blocks_done: that are written.
        blocks: that have tissue.
    """

    slide_id: str
    blocks_done: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is; the four kinds of slides add up to those that were submitted.

    Attributes:
        run: who holds the folder; None when the last run has let it go.
        submitted: slides of the last run.
        done: slides that are done.
        failed: slides that failed, by id.
        begun: slides that are under way, or were when a run stopped, by id.
        waiting: slides that no run has come to.
        tiles_per_s: pace of a run that is alive, over `WINDOW_S` or since it began; None before its
            first block.
        end: when a run that is alive will be done, at this pace; None while nothing can be said.
    """

    run: Run | None
    submitted: int
    done: int
    failed: tuple[FailedSlide, ...]
    begun: tuple[BegunSlide, ...]
    waiting: int
    tiles_per_s: float | None
    end: datetime | None


def read_status(out: Path) -> Status:
    """How far the run in a folder is, or was when it ended.

    Raises:
        UsageError: if no run has begun there.
    """
    now = datetime.now(UTC)
    run = current_run(out)
    results = ResultsFolder(out)
    since = (now - timedelta(seconds=WINDOW_S)).isoformat(timespec="seconds")
    try:
        state, recent_blocks = _read(results.ledger, since)
    except OSError as error:
        raise UsageError(
            f"{out} holds no run of noctile: its ledger.jsonl: {error.strerror or error}"
        ) from error
    slides = _current(state)
    written = {i: state.blocks_done(i, slide.key) for i, slide in slides.items()}
    ids: dict[Stage, list[str]] = defaultdict(list)
    for slide_id, slide in sorted(slides.items()):
        ids[slide.stage].append(slide_id)
    tiles = cache(
        lambda slide_id: _tiles(results, slide_id)
    )  # of each block; only of slides under way
    pace, end = None, None
    if run and run.alive:
        begun_at = datetime.fromisoformat(state.start.time) if state.start else now
        elapsed_s = max(1.0, (now - begun_at).total_seconds())
        recent = sum(tiles(slide_id).get(block, 0) for slide_id, block in recent_blocks)
        pace = recent / min(elapsed_s, WINDOW_S) or None
        left = sum(
            n for i in ids["begun"] for block, n in tiles(i).items() if block not in written[i]
        )
        slow = (
            elapsed_s / state.finished * len(ids["begun"] + ids["waiting"])
            if state.finished
            else None
        )
        planned = _planned(results.plan_table, ids["waiting"])
        left_s = slow if planned is None else (left + planned) / pace if pace else None
        end = None if left_s is None else now + timedelta(seconds=left_s)
    return Status(
        run,
        len(slides),
        len(ids["done"]),
        tuple(_failed(results, slide_id, slides[slide_id]) for slide_id in ids["failed"]),
        tuple(
            BegunSlide(i, len(written[i] & tiles(i).keys()), len(tiles(i))) for i in ids["begun"]
        ),
        len(ids["waiting"]),
        pace,
        end,
    )


def _read(path: Path, since: str) -> tuple[LedgerState, list[tuple[str, Block]]]:
    """Read a ledger, and find the blocks that were written lately.

    Args:
        path: path of the ledger.
        since: time from which on a block is recent, ISO 8601 in UTC.

    Returns:
        the state of all slides, and the slide id and (row, col) of each recent block.

    Raises:
        OSError: if the ledger cannot be read.
    """
    state, recent = LedgerState(), []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for event in parse_events(lines):
            state.take(event)
            if isinstance(event, Segmented) and event.time >= since:
                recent.append((event.slide_id, event.block))
    return state, recent


def _current(state: LedgerState) -> dict[str, SlideState]:
    """State of each slide of the last run, by id.

    A slide that was last seen with another model or other settings counts as new.
    """
    start = state.start
    pixels_key = start.pixels_key if start else ""
    slides = {
        i: state.slides.get(i, SlideState()) for i in (start and start.slides) or state.slides
    }
    return {i: s if s.pixels_key == pixels_key else SlideState() for i, s in slides.items()}


def current_run(out: Path) -> Run | None:
    """Who holds a folder of results; None for nobody.

    Raises:
        UsageError: if the folder cannot be read.
    """
    try:
        silent_s = max(0.0, time.time() - ResultsFolder(out).lease.stat().st_mtime)
        holder = read_lease(out)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{out} cannot be read: {error.strerror or error}") from error
    if holder is None:
        return None
    owner = holder.owner
    return Run(holder, silent_s, alive=not owner.is_gone if owner.is_here else silent_s <= STALE_S)


def _failed(results: ResultsFolder, slide_id: str, slide: SlideState) -> FailedSlide:
    reports = results.failure_report(slide_id), results.slide(slide_id).failure
    report = next((path for path in reports if path.exists()), results.ledger)
    name = report.relative_to(results.path).as_posix()
    assert slide.failure is not None  # noqa: S101 - its stage is 'failed'
    return FailedSlide(slide_id, slide.failure.reason, slide.failure.message, slide.attempts, name)


def _tiles(results: ResultsFolder, slide_id: str) -> dict[Block, int]:
    """Predictions of each block of a slide that is under way or done; empty if its plan has gone."""
    plans = (read_json(f.plan) for f in (results.staged(slide_id), results.slide(slide_id)))
    described: dict[str, Any] = next(filter(None, plans), {"plan": {"blocks": []}})
    return {
        (block["row"], block["col"]): sum(stop - start for _, start, stop in block["tiles"])
        for block in described["plan"]["blocks"]
    }


def _planned(table: Path, slide_ids: list[str]) -> int | None:
    """Predictions that slides take together, by the table of `noctile plan`; None if it does not
    have all of them.
    """
    if not slide_ids:
        return 0
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            known = {
                unescape_cell(row["slide_id"]): row["predictions"] for row in csv.DictReader(lines)
            }
        return sum(int(known[slide_id]) for slide_id in slide_ids)
    except (OSError, ValueError, KeyError):
        return None
