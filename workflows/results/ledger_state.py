"""State that the events of a ledger add up to.

`replay` reads events; the run and ``noctile status`` both use its result.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from noctile.workflows.results.events import (
    Block,
    Event,
    Failed,
    Finished,
    LeftOut,
    Planned,
    Segmented,
    Started,
    Submitted,
)

Stage = Literal["waiting", "begun", "done", "failed"]


@dataclass(slots=True)
class SlideState:
    """Last known state of a slide.

    Attributes:
        stage: stage that the slide has reached.
        key: content key under which it was last planned, segmented or finished; "" if it was not.
        pixels_key: `Started.pixels_key` of the run that noted the last event.
        failure: failure with which it failed, without its traceback; None if it has not failed.
        attempts: number of runs in which it has failed.
        planned: True if any run has planned it.
        submitted: last call that named it, with the cells of all manifests so far; None for slides
            of earlier versions.
        left_out: last call that found its path and did not take it; None if a call has taken it.
        fingerprint: hash of samples of its file when it was last planned; "" if it was not.
        worked_in: run id of the call that noted the last event under ``key``.
        done_by: run id of the call that has last done it.
        failed_in: run id of the call in which it last failed.
        named: run id of the last call that named it.
    """

    stage: Stage = "waiting"
    key: str = ""
    pixels_key: str = ""
    failure: Failed | None = None
    attempts: int = 0
    planned: bool = False
    submitted: Submitted | None = None
    left_out: LeftOut | None = None
    fingerprint: str = ""
    worked_in: str = ""
    done_by: str = ""
    failed_in: str = ""
    named: str = ""


@dataclass(slots=True)
class LedgerState:
    """State that the events of a ledger add up to.

    Its size grows with the number of slides. Blocks are remembered only for slides that are not
    done.

    Attributes:
        start: last start of a run; None if there is none.
        finished: number of slides that were finished since then.
        slides: state of each slide that an event names, by id.
        long_lines: number of lines that are too long to be read, and were left out.
    """

    start: Started | None = None
    finished: int = 0
    slides: dict[str, SlideState] = field(default_factory=lambda: defaultdict(SlideState))
    long_lines: int = 0
    _blocks: dict[tuple[str, str], set[Block]] = field(default_factory=dict)
    _seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def take(self, event: Event) -> None:
        """Add the next event."""
        if isinstance(event, Started):
            self._take_start(event)
            return
        slide = self.slides[event.slide_id]
        if isinstance(event, LeftOut):
            slide.left_out = event
            return
        if isinstance(event, Submitted):
            _take_submission(slide, event)
            return
        slide.pixels_key = self.start.pixels_key if self.start else ""
        if isinstance(event, Failed):
            self._take_failure(slide, event)
            return
        slide.key, slide.worked_in = event.key, self.start.run if self.start else ""
        content = event.slide_id, event.key
        if isinstance(event, Segmented):
            self._blocks.setdefault(content, set()).add(event.block)
            slide.stage = "failed" if slide.stage == "failed" else "begun"
        else:
            slide.planned, slide.failure = True, None
            if isinstance(event, Planned):
                self._take_plan(slide, event)
            elif isinstance(event, Finished):
                self._blocks.pop(content, None)
                slide.stage, self.finished = "done", self.finished + 1
                slide.done_by, slide.worked_in = event.run, event.run or slide.worked_in
        self._seconds[content] += event.seconds

    def _take_start(self, event: Started) -> None:
        self.start, self.finished = event, 0
        for slide_id in event.slides:
            self.slides[slide_id].named = event.run
        for slide_id, slide in self.slides.items():
            if slide.stage == "begun" and not self.blocks_done(slide_id, slide.key):
                slide.stage = "waiting"

    def _take_plan(self, slide: SlideState, event: Planned) -> None:
        content = event.slide_id, event.key
        if event.fresh:
            self._blocks.pop(content, None)
            self._seconds.pop(content, None)
        slide.fingerprint = event.fingerprint or slide.fingerprint
        runs = self.start is None or self.start.command == "run"
        begun = self._blocks.get(content) or (runs and not event.early)
        slide.stage = "begun" if begun else "waiting"

    def _take_failure(self, slide: SlideState, event: Failed) -> None:
        """A slide keeps its first failure: later steps of the same run fail after it."""
        slide.attempts = event.attempt
        first = slide.failure or event
        slide.failed_in = event.run or (self.start.run if self.start else "")
        slide.stage, slide.failure = "failed", replace(first, attempt=event.attempt, traceback="")

    def slide(self, slide_id: str) -> SlideState:
        """Return the state of a slide; that of a new one if no event names it."""
        return self.slides[slide_id] if slide_id in self.slides else SlideState()

    def blocks_done(self, slide_id: str, key: str) -> set[Block]:
        """Return the (row, col) of the written blocks of an unfinished slide, under its key."""
        return set(self._blocks.get((slide_id, key), ()))

    def seconds(self, slide_id: str, key: str) -> float:
        """Return the time that all steps of a slide have taken in all runs, under its key (s)."""
        return self._seconds.get((slide_id, key), 0.0)

    def made_by(self, slide_id: str, key: str) -> str:
        """Return the run id of the call that made the result of a slide; "" if it is unknown.

        A run that was killed may have made a result without a record of its end.

        Args:
            slide_id: id of the slide.
            key: content key of the result.
        """
        slide = self.slide(slide_id)
        return slide.worked_in if slide.key == key and slide.stage != "done" else slide.done_by

    def failure(self, slide_id: str) -> Failed | None:
        """Return the failure of a slide that failed when it was last tried, else None."""
        return self.slide(slide_id).failure

    def is_done(self, slide_id: str, key: str) -> bool:
        """Tell if the last event of a slide is its end under this key."""
        slide = self.slide(slide_id)
        return slide.stage == "done" and slide.key == key

    def is_planned(self, slide_id: str) -> bool:
        """Tell if any run has planned a slide."""
        return self.slide(slide_id).planned

    def attempts(self, slide_id: str) -> int:
        """Return the number of runs in which a slide has failed."""
        return self.slide(slide_id).attempts


def _take_submission(slide: SlideState, event: Submitted) -> None:
    """Add what a call says about a slide; without a path it says cells only."""
    before = slide.submitted
    cells = {**(before.cells if before else {}), **event.cells}
    if event.path:
        slide.left_out = None
    named = event if event.path or before is None else before
    slide.submitted = replace(named, cells=cells)
    slide.named = event.run or slide.named


def replay(events: Iterable[Event], state: LedgerState | None = None) -> LedgerState:
    """Return the state after all events.

    Args:
        events: events in the order of the ledger.
        state: state to which they are added; None for that of an empty ledger.
    """
    state = state or LedgerState()
    for event in events:
        state.take(event)
    return state
