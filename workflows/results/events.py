"""Events of a ledger, and the state that they add up to.

One line of ``ledger.jsonl`` is one event. `replay` reads the file; the run and ``noctile status``
both use its result.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import parse_json, printable

Command = Literal["run", "plan"]
Stage = Literal["waiting", "begun", "done", "failed"]
Block = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Started:
    """Start of ``noctile run`` or ``noctile plan``.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        command: the command that started, ``run`` or ``plan``.
        slides: ids of the slides that were submitted.
        pixels_key: hash of everything that masks depend on beside their slides.
    """

    time: str
    command: Command
    slides: tuple[str, ...]
    pixels_key: str


@dataclass(frozen=True, slots=True)
class StepEvent:
    """End of a step of a slide.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        slide_id: id of the slide.
        key: content key of the slide under the model and the settings.
        seconds: duration of the step (s).
    """

    time: str
    slide_id: str
    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Planned(StepEvent):
    """The tiles of a slide are planned.

    Attributes:
        fresh: True if the slide was planned from nothing; no earlier block of it is valid then.
        early: True if the run planned it before its turn, in the preflight of its first minutes.
    """

    fresh: bool
    early: bool


@dataclass(frozen=True, slots=True)
class Segmented(StepEvent):
    """One block was written.

    Attributes:
        block: (row, col) of the block.
    """

    block: Block


@dataclass(frozen=True, slots=True)
class Finished(StepEvent):
    """A slide is done."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A step failed, and its slide with it.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        step: kind of the step.
        slide_id: id of the slide.
        key: hash of the slide's file, the model and the settings at that time.
        seconds: duration of the step (s).
        attempt: number of runs in which the slide has failed, this one included.
        reason: reason code.
        message: one line for a reader.
        traceback: Python traceback or crash dump; "" if there is none.
    """

    time: str
    step: str
    slide_id: str
    key: str
    seconds: float
    attempt: int
    reason: str
    message: str
    traceback: str = ""


Event = Started | Planned | Segmented | Finished | Failed


def to_line(event: Event) -> str:
    """JSON line of an event, with its line break."""
    values: dict[str, Any] = {"time": event.time, "event": _name(event)}
    names = (f.name for f in fields(event) if f.name not in ("time", "early"))
    values.update((name, getattr(event, name)) for name in names)
    return json.dumps(values, ensure_ascii=False) + "\n"


def _name(event: Event) -> str:
    match event:
        case Started():
            return "start"
        case Planned(early=early):
            return "look" if early else "prepare"
        case Segmented():
            return "segment"
        case Finished():
            return "finish"
        case Failed():
            return "failed"


def _started(line: dict[str, Any]) -> Started:
    if datetime.fromisoformat(line["time"]).tzinfo is None:
        raise ValueError("a time without its zone")
    return Started(line["time"], line["command"], tuple(line["slides"]), line["pixels_key"])


def _planned(line: dict[str, Any], *, early: bool) -> Planned:
    return Planned(*_step(line), bool(line["fresh"]), early)


def _failed(line: dict[str, Any]) -> Failed:
    time, slide_id, key, seconds = _step(line)
    step, reason, message = (printable(str(line[name])) for name in ("step", "reason", "message"))
    about = int(line["attempt"]), reason, message, str(line["traceback"])
    return Failed(time, step, slide_id, key, seconds, *about)


def _step(line: dict[str, Any]) -> tuple[str, str, str, float]:
    return str(line["time"]), line["slide_id"], str(line["key"]), float(line["seconds"])


_PARSERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "start": _started,
    "look": lambda line: _planned(line, early=True),
    "prepare": lambda line: _planned(line, early=False),
    "segment": lambda line: Segmented(*_step(line), (int(line["block"][0]), int(line["block"][1]))),
    "finish": lambda line: Finished(*_step(line)),
    "failed": _failed,
}
"""Function that makes an event of a line, by the name of the event."""


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read the events of a ledger, without lines that are torn or still being written.

    The ledger may come from another person. Lines with other types are left out, and so are ids
    that cannot name a folder: an id such as ``../x`` would lead out of the folder of results.
    """
    for text in lines:
        try:
            line = parse_json(text)
            yield _with_plain_ids(_PARSERS[line["event"]](line))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            continue


def _with_plain_ids(event: Event) -> Event:
    """Return an event whose ids can name folders.

    Raises:
        ValueError: if the id of its slide cannot.
    """
    if isinstance(event, Started):
        return replace(event, slides=tuple(i for i in event.slides if _is_plain(i)))
    if not _is_plain(event.slide_id):
        raise ValueError(f"{event.slide_id!r:.100} cannot name a folder")
    return event


def _is_plain(slide_id: Any) -> bool:
    """Tell if a value is a slide_id, which can name a folder."""
    return isinstance(slide_id, str) and _problem(slide_id) is None


_problem = lru_cache(maxsize=2**16)(slide_id_problem)


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
    """

    stage: Stage = "waiting"
    key: str = ""
    pixels_key: str = ""
    failure: Failed | None = None
    attempts: int = 0
    planned: bool = False


@dataclass(slots=True)
class LedgerState:
    """State that the events of a ledger add up to.

    Its size grows with the number of slides. Blocks are remembered only for slides that are not
    done.

    Attributes:
        start: last start of a run; None if there is none.
        finished: number of slides that were finished since then.
        slides: state of each slide that an event names, by id.
    """

    start: Started | None = None
    finished: int = 0
    slides: dict[str, SlideState] = field(default_factory=lambda: defaultdict(SlideState))
    _blocks: dict[tuple[str, str], set[Block]] = field(default_factory=dict)
    _seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def take(self, event: Event) -> None:
        """Add the next event."""
        if isinstance(event, Started):
            self._take_start(event)
            return
        slide = self.slides[event.slide_id]
        slide.pixels_key = self.start.pixels_key if self.start else ""
        if isinstance(event, Failed):
            self._take_failure(slide, event)
            return
        slide.key = event.key
        content = event.slide_id, event.key
        if isinstance(event, Segmented):
            self._blocks.setdefault(content, set()).add(event.block)
            slide.stage = "failed" if slide.stage == "failed" else "begun"
        else:
            slide.planned, slide.failure = True, None
            if isinstance(event, Planned):
                self._take_plan(slide, event)
            else:
                self._blocks.pop(content, None)
                slide.stage, self.finished = "done", self.finished + 1
        self._seconds[content] += event.seconds

    def _take_start(self, event: Started) -> None:
        self.start, self.finished = event, 0
        for slide_id, slide in self.slides.items():
            if slide.stage == "begun" and not self.blocks_done(slide_id, slide.key):
                slide.stage = "waiting"

    def _take_plan(self, slide: SlideState, event: Planned) -> None:
        content = event.slide_id, event.key
        if event.fresh:
            self._blocks.pop(content, None)
            self._seconds.pop(content, None)
        runs = self.start is None or self.start.command == "run"
        begun = self._blocks.get(content) or (runs and not event.early)
        slide.stage = "begun" if begun else "waiting"

    def _take_failure(self, slide: SlideState, event: Failed) -> None:
        """A slide keeps its first failure: later steps of the same run fail after it."""
        slide.attempts = event.attempt
        first = slide.failure or event
        slide.stage, slide.failure = "failed", replace(first, attempt=event.attempt, traceback="")

    def blocks_done(self, slide_id: str, key: str) -> set[Block]:
        """Return the (row, col) of the written blocks of an unfinished slide, under its key."""
        return set(self._blocks.get((slide_id, key), ()))

    def seconds(self, slide_id: str, key: str) -> float:
        """Return the time that all steps of a slide have taken in all runs, under its key (s)."""
        return self._seconds.get((slide_id, key), 0.0)

    def failure(self, slide_id: str) -> Failed | None:
        """Return the failure of a slide that failed when it was last tried, else None."""
        return self.slides[slide_id].failure if slide_id in self.slides else None

    def is_done(self, slide_id: str, key: str) -> bool:
        """Tell if the last event of a slide is its end under this key."""
        slide = self.slides.get(slide_id)
        return slide is not None and slide.stage == "done" and slide.key == key

    def is_planned(self, slide_id: str) -> bool:
        """Tell if any run has planned a slide."""
        return slide_id in self.slides and self.slides[slide_id].planned

    def attempts(self, slide_id: str) -> int:
        """Return the number of runs in which a slide has failed."""
        return self.slides[slide_id].attempts if slide_id in self.slides else 0


def replay(events: Iterable[Event]) -> LedgerState:
    """Return the state after all events."""
    state = LedgerState()
    for event in events:
        state.take(event)
    return state
