"""Progress of a run, read from its folder of results while it is at work or after its end.

No slide is opened, nothing is locked or written. The ledger is read once, and the plans of the
slides that are under way, and the summaries of slides with points of an audit.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from noctile.pipeline.csv_cells import read_csv, unescape_cell
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.review import combined_status
from noctile.pipeline.untrusted import printable
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.events import Block, Segmented
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import STALE_S, Holder, read_lease
from noctile.workflows.results.ledger import long_lines_note, read_events
from noctile.workflows.results.ledger_state import LedgerState, SlideState, Stage
from noctile.workflows.results.reviews import Reviews

WINDOW_S = 300.0
"""Period over which the speed is measured (s)."""

_LONGEST_S = 1e9
"""Time to the end of a run from which on it is not shown (s): figures are wrong then."""

_MOST_TILES = 10**9
"""Largest number of tiles of a slide that counts; a larger one is wrong."""

_TABLE_BYTES = 2**28
"""Largest table that is read (B); 100,000 slides take 30 MB."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run that holds a folder of results.

    Attributes:
        holder: process of the run, and the time of its start.
        silent_s: time since its last heartbeat (s).
        alive: False for a run that died, and so could not release the folder.
    """

    holder: Holder
    silent_s: float
    alive: bool


@dataclass(frozen=True, slots=True)
class FailedSlide:
    """Slide that failed when it was last tried.

    Attributes:
        slide_id: id of the slide.
        reason: code of the failure.
        message: message of the failure, for a reader.
        attempts: number of runs in which the slide has failed.
        report: file with the traceback, relative to the folder of results.
    """

    slide_id: str
    reason: str
    message: str
    attempts: int
    report: str


@dataclass(frozen=True, slots=True)
class BegunSlide:
    """Slide that a run has begun and not ended.

    Attributes:
        slide_id: id of the slide.
        blocks_done: number of blocks that are written.
        blocks: number of blocks that have tissue.
    """

    slide_id: str
    blocks_done: int
    blocks: int


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """State of the audit of a folder.

    Attributes:
        points: number of points.
        readers: number of points that each reader has answered, by name.
        stale: number of slides with points whose result has gone or was made anew since.
        fault: message about a damaged file, with which nothing was counted; "" if there is none.
    """

    points: int = 0
    readers: Mapping[str, int] = field(default_factory=dict)
    stale: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Progress of a run. Each submitted slide is done, failed, begun or waiting.

    Attributes:
        run: run that holds the folder; None if the last run has released it.
        submitted: number of slides of the last run.
        done: number of slides that are done.
        failed: slides that failed, by id.
        begun: slides that are under way, or were under way when a run stopped, by id.
        waiting: number of slides that no run has begun.
        tiles_per_s: speed of a run that is alive, over the last `WINDOW_S` or since its start
            (tiles/s); None before its first block.
        end: expected end of a run that is alive, at this speed; None while it cannot be estimated.
        note: line for the user about the ledger; "" if it is in order.
        reviews: number of slides by review status, of those that reviewers have given one.
        audit: state of the audit; None if none has been drawn.
    """

    run: Run | None
    submitted: int
    done: int
    failed: tuple[FailedSlide, ...]
    begun: tuple[BegunSlide, ...]
    waiting: int
    tiles_per_s: float | None
    end: datetime | None
    note: str = ""
    reviews: Mapping[str, int] = field(default_factory=dict)
    audit: AuditStatus | None = None


def read_status(out: Path) -> Status:
    """Read the progress of the run in a folder.

    Raises:
        UsageError: if no run has begun there.
    """
    run = current_run(out)
    progress = _Progress(ResultsFolder(out), datetime.now(UTC))
    speed = progress.tiles_per_s() if run and run.alive else None
    return Status(
        run,
        len(progress.slides),
        len(progress.ids["done"]),
        tuple(map(progress.failed, progress.ids["failed"])),
        tuple(map(progress.begun, progress.ids["begun"])),
        len(progress.ids["waiting"]),
        speed,
        progress.end(speed) if run and run.alive else None,
        progress.note,
        _review_counts(ResultsFolder(out)),
        _audit_status(Audits(ResultsFolder(out))),
    )


def _review_counts(results: ResultsFolder) -> dict[str, int]:
    """Number of slides by review status; none if ``review.csv`` is damaged, as verify tells."""
    by_slide: dict[str, list[str]] = defaultdict(list)
    with suppress(StoreError):
        for review in Reviews(results).all():
            by_slide[review.slide_id].append(review.status)
    return dict(Counter(filter(None, map(combined_status, by_slide.values()))))


def _audit_status(audits: Audits) -> AuditStatus | None:
    """Count points and answers; None if there is no audit. Damage is a part of the answer."""
    try:
        if not audits.exists():
            return None
        points, answers, stale = audits.points(), audits.answers(), audits.stale()
    except (StoreError, OSError) as error:
        return AuditStatus(fault=printable(str(error)))
    readers = Counter(printable(answer.reader) for answer in answers)
    return AuditStatus(len(points), dict(sorted(readers.items())), len(stale))


def current_run(out: Path) -> Run | None:
    """Return the run that holds a folder of results; None if there is none.

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


class _Progress:
    """Progress of the last run, from its ledger and the plans of its slides.

    Args:
        results: paths in the folder of results.
        now: current time.

    Attributes:
        slides: state of each slide of the last run, by id.
        ids: sorted slide ids, by stage.
        note: line for the user about the ledger; "" if it is in order.

    Raises:
        UsageError: if the ledger cannot be read.
    """

    def __init__(self, results: ResultsFolder, now: datetime) -> None:
        self._results, self._now = results, now
        since = (now - timedelta(seconds=WINDOW_S)).isoformat(timespec="seconds")
        try:
            self._state, self._recent = _read(results.ledger, since)
        except OSError as error:
            raise UsageError(
                f"{results.path} holds no run of noctile: its ledger.jsonl: "
                f"{error.strerror or error}"
            ) from error
        self.slides = _current(self._state)
        self.ids: dict[Stage, list[str]] = defaultdict(list)
        for slide_id, slide in sorted(self.slides.items()):
            self.ids[slide.stage].append(slide_id)
        self._tiles: dict[str, dict[Block, int]] = {}
        self.note = long_lines_note(results.ledger, self._state.long_lines)

    def failed(self, slide_id: str) -> FailedSlide:
        """Describe a slide that failed."""
        slide, results = self.slides[slide_id], self._results
        reports = results.failure_report(slide_id), results.slide(slide_id).failure
        report = next((path for path in reports if path.exists()), results.ledger)
        name = report.relative_to(results.path).as_posix()
        failure = slide.failure
        assert failure is not None  # noqa: S101 - its stage is 'failed'
        return FailedSlide(slide_id, failure.reason, failure.message, slide.attempts, name)

    def begun(self, slide_id: str) -> BegunSlide:
        """Describe a slide that is under way."""
        tiles = self._block_tiles(slide_id)
        return BegunSlide(slide_id, len(self._written(slide_id) & tiles.keys()), len(tiles))

    def tiles_per_s(self) -> float | None:
        """Speed over the last `WINDOW_S`, or since the start of the run; None before any block."""
        tiles = sum(self._block_tiles(slide_id).get(block, 0) for slide_id, block in self._recent)
        return tiles / min(self._elapsed_s(), WINDOW_S) or None

    def end(self, tiles_per_s: float | None) -> datetime | None:
        """Expected end: by tiles if all slides are planned, else by slides that are done."""
        planned = _planned_tiles(self._results.plan_table, self.ids["waiting"])
        if planned is None:
            left_s = self._left_by_slides_s()
        else:
            left_s = (self._begun_tiles() + planned) / tiles_per_s if tiles_per_s else None
        if left_s is None or left_s > _LONGEST_S:
            return None
        return self._now + timedelta(seconds=left_s)

    def _left_by_slides_s(self) -> float | None:
        left = len(self.ids["begun"]) + len(self.ids["waiting"])
        finished = self._state.finished
        return self._elapsed_s() / finished * left if finished else None

    def _begun_tiles(self) -> int:
        """Number of tiles that are left in slides under way."""
        return sum(
            n
            for slide_id in self.ids["begun"]
            for block, n in self._block_tiles(slide_id).items()
            if block not in self._written(slide_id)
        )

    def _elapsed_s(self) -> float:
        start = self._state.start
        begun_at = datetime.fromisoformat(start.time) if start else self._now
        return max(1.0, (self._now - begun_at).total_seconds())

    def _written(self, slide_id: str) -> set[Block]:
        return self._state.blocks_done(slide_id, self.slides[slide_id].key)

    def _block_tiles(self, slide_id: str) -> dict[Block, int]:
        """Number of tiles of each block of a slide, by its plan, which is read once."""
        if slide_id not in self._tiles:
            self._tiles[slide_id] = _plan_tiles(self._results, slide_id)
        return self._tiles[slide_id]


def _read(path: Path, since: str) -> tuple[LedgerState, list[tuple[str, Block]]]:
    """Read a ledger, and find the blocks that were written lately.

    Args:
        path: path of the ledger.
        since: time from which on a block is recent, ISO 8601 in UTC.

    Returns:
        State of all slides, and the slide id and (row, col) of each recent block.

    Raises:
        OSError: if the ledger cannot be read.
    """
    state, recent = LedgerState(), []
    for event in read_events(path, state):
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


def _plan_tiles(results: ResultsFolder, slide_id: str) -> dict[Block, int]:
    """Number of tiles of each block of a slide; empty if its plan is missing.

    Raises:
        StoreError: if its plan is damaged.
    """
    plans = (read_json(f.plan) for f in (results.staged(slide_id), results.slide(slide_id)))
    described: dict[str, Any] = next(filter(None, plans), {"plan": {"blocks": []}})
    try:
        return {
            (int(block["row"]), int(block["col"])): _tiles_of(block)
            for block in described["plan"]["blocks"]
        }
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(
            f"the plan of {slide_id} in {results.path} is damaged: {error!r:.200}; run the same "
            "command again"
        ) from error


def _tiles_of(block: Mapping[str, Any]) -> int:
    """Number of tiles of a block in a plan."""
    return min(sum(int(stop) - int(start) for _, start, stop in block["tiles"]), _MOST_TILES)


def _planned_tiles(table: Path, slide_ids: list[str]) -> int | None:
    """Number of tiles of slides, by the table of `noctile plan`; None if it lacks any of them."""
    if not slide_ids:
        return 0
    try:
        lines = read_csv(table, _TABLE_BYTES)
        header = next(lines, [])
        name, figure = header.index("slide_id"), header.index("predictions")
        known = {unescape_cell(line[name]): line[figure] for line in lines}
        return sum(min(int(known[slide_id]), _MOST_TILES) for slide_id in slide_ids)
    except (OSError, ValueError, LookupError):
        return None
