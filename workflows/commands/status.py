"""What `noctile status` tells: how far a run is, from what it has written down, while it goes on or
after.

Opens no slide, locks nothing, writes nothing; one pass over the ledger, and the plans of the slides
under way.
"""

import csv
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from noctile.pipeline.csv_cells import unescape_cell
from noctile.pipeline.errors import UsageError
from noctile.workflows.results.layout import SLIDES, STAGING, SlideFolder, read_json
from noctile.workflows.results.lease import NAME, STALE_S, Holder, read_lease

WINDOW_S = 300.0
"""The pace is that of the last so many seconds."""

PLAN_TABLE = "plan.csv"
"""What `noctile plan` leaves: one row a slide, with the predictions that it takes."""

Block = tuple[int, int]
Stage = Literal["waiting", "begun", "done", "failed"]


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
    journal = _Journal((now - timedelta(seconds=WINDOW_S)).isoformat(timespec="seconds"))
    try:
        with (out / "ledger.jsonl").open("rb") as lines:
            journal.read(lines)
    except OSError as error:
        raise UsageError(
            f"{out} holds no run of noctile: its ledger.jsonl: {error.strerror or error}"
        ) from error
    slides = journal.current()
    ids: dict[Stage, list[str]] = defaultdict(list)
    for slide_id, slide in sorted(slides.items()):
        ids[slide.stage].append(slide_id)
    tiles = cache(lambda slide_id: _tiles(out, slide_id))  # of each block; only of slides under way
    pace, end = None, None
    if run and run.alive:
        elapsed_s = max(1.0, (now - (journal.begun or now)).total_seconds())
        recent = sum(tiles(slide_id).get(block, 0) for slide_id, block in journal.recent)
        pace = recent / min(elapsed_s, WINDOW_S) or None
        left = sum(
            n
            for i in ids["begun"]
            for block, n in tiles(i).items()
            if block not in slides[i].blocks
        )
        slow = (
            elapsed_s / journal.done * len(ids["begun"] + ids["waiting"]) if journal.done else None
        )
        planned = _planned(out, ids["waiting"])
        left_s = slow if planned is None else (left + planned) / pace if pace else None
        end = None if left_s is None else now + timedelta(seconds=left_s)
    return Status(
        run,
        len(slides),
        len(ids["done"]),
        tuple(_failed(out, slide_id, slides[slide_id]) for slide_id in ids["failed"]),
        tuple(
            BegunSlide(i, len(slides[i].blocks & tiles(i).keys()), len(tiles(i)))
            for i in ids["begun"]
        ),
        len(ids["waiting"]),
        pace,
        end,
    )


@dataclass(slots=True)
class _Slide:
    """What the ledger says of a slide last; ``pixels``: under which key of model and settings that
    was.
    """

    stage: Stage = "waiting"
    pixels: str = ""
    blocks: set[Block] = field(default_factory=set)
    failure: dict[str, Any] = field(default_factory=dict)


class _Journal:
    """What a ledger comes to.

    Args:
        since: blocks that were written later are recent; ISO time as the ledger has it, which sorts
            like time.

    Attributes:
        begun: when the last run began.
        recent: blocks that have been written lately.
        done: slides that the last run has done; what fails, fails soon, and says nothing of the
            rest.
    """

    def __init__(self, since: str) -> None:
        self._since, self._slides = since, defaultdict[str, _Slide](_Slide)
        self._submitted: list[str] = []
        self._pixels, self._runs = "", True
        self.begun: datetime | None = None
        self.recent: list[tuple[str, Block]] = []
        self.done = 0

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in a ledger. A line that is torn, or still being written, says nothing."""
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError):
                continue

    def current(self) -> dict[str, _Slide]:
        """The slides of the last run; what others have done with another model or other settings
        does not count.
        """
        return {
            slide_id: slide if slide.pixels == self._pixels else _Slide()
            for slide_id in self._submitted or self._slides
            for slide in (self._slides[slide_id],)
        }

    def _take(self, line: dict[str, Any]) -> None:
        event = line["event"]
        if event == "start":
            self._submitted, self._pixels, self._runs = (
                line["slides"],
                line["pixels_key"],
                line["command"] == "run",
            )
            self.begun, self.done = datetime.fromisoformat(line["time"]), 0
            for slide in self._slides.values():
                if slide.stage == "begun" and not slide.blocks:
                    slide.stage = "waiting"
            return
        slide = self._slides[line["slide_id"]]
        slide.pixels = self._pixels
        if event == "segment":
            block = (line["block"][0], line["block"][1])
            slide.blocks.add(block)
            slide.stage = "begun" if slide.stage != "failed" else "failed"
            if line["time"] >= self._since:
                self.recent.append((line["slide_id"], block))
        elif event in ("look", "prepare"):
            if line["fresh"]:
                slide.blocks.clear()
            begun = slide.blocks or (self._runs and event == "prepare")
            slide.stage = "begun" if begun else "waiting"
        elif event == "finish":
            slide.stage, self.done = "done", self.done + 1
            slide.blocks.clear()
        elif event == "failed":
            if slide.stage != "failed":
                slide.stage, slide.failure = "failed", line
            slide.failure = {**slide.failure, "attempt": line["attempt"]}


def current_run(out: Path) -> Run | None:
    """Who holds a folder of results; None for nobody.

    Raises:
        UsageError: if the folder cannot be read.
    """
    try:
        silent_s = max(0.0, time.time() - (out / NAME).stat().st_mtime)
        holder = read_lease(out)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{out} cannot be read: {error.strerror or error}") from error
    if holder is None:
        return None
    owner = holder.owner
    return Run(holder, silent_s, alive=not owner.is_gone if owner.is_here else silent_s <= STALE_S)


def _failed(out: Path, slide_id: str, slide: _Slide) -> FailedSlide:
    failure = slide.failure
    reports = (out / "failures" / f"{slide_id}.txt", SlideFolder(out / SLIDES / slide_id).failure)
    report = next(
        (path.relative_to(out).as_posix() for path in reports if path.exists()), "ledger.jsonl"
    )
    return FailedSlide(slide_id, failure["reason"], failure["message"], failure["attempt"], report)


def _tiles(out: Path, slide_id: str) -> dict[Block, int]:
    """Predictions of each block of a slide that is under way or done; empty if its plan has gone."""
    plans = (read_json(SlideFolder(out / place / slide_id).plan) for place in (STAGING, SLIDES))
    described: dict[str, Any] = next(filter(None, plans), {"plan": {"blocks": []}})
    return {
        (block["row"], block["col"]): sum(stop - start for _, start, stop in block["tiles"])
        for block in described["plan"]["blocks"]
    }


def _planned(out: Path, slide_ids: list[str]) -> int | None:
    """Predictions that slides take together, by the table of `noctile plan`; None if it does not
    have all of them.
    """
    if not slide_ids:
        return 0
    try:
        with (out / PLAN_TABLE).open(encoding="utf-8", newline="") as lines:
            known = {
                unescape_cell(row["slide_id"]): row["predictions"] for row in csv.DictReader(lines)
            }
        return sum(int(known[slide_id]) for slide_id in slide_ids)
    except (OSError, ValueError, KeyError):
        return None
