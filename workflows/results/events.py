"""Events of a ledger: one line of ``ledger.jsonl`` is one event."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import parse_json, printable

Command = Literal["run", "plan", "regroup", "diff"]
Block = tuple[int, int]

_MOST_CELLS = 2**12
"""Most cells of a slide in a manifest: each name of them is a column of the tables."""


@dataclass(frozen=True, slots=True)
class Started:
    """Start of ``noctile run``, ``plan``, ``regroup`` or ``diff``.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        command: the command that started, ``run``, ``plan``, ``regroup`` or ``diff``.
        slides: ids of the slides that were submitted.
        pixels_key: hash of everything that masks depend on beside their slides.
        run: run id of the call; "" in ledgers of earlier versions.
    """

    time: str
    command: Command
    slides: tuple[str, ...]
    pixels_key: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A call names a slide, and says something new about it.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        slide_id: id of the slide.
        path: path of the slide in this call.
        size: size of its file (B); -1 if there is no such file.
        mtime_ns: time of the file's modification (ns); -1 if there is no such file.
        cells: cells of the manifest that are not empty, by the name of their column.
        run: run id of the call; "" for a command that is no run.
    """

    time: str
    slide_id: str
    path: str
    size: int
    mtime_ns: int
    cells: Mapping[str, str]
    run: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A call found a path that it does not take as a slide.

    Attributes:
        time: time of the event, ISO 8601 in UTC.
        slide_id: name of the path in the tables.
        path: path as printable text.
        reason: one line for a reader.
        run: run id of the call.
    """

    time: str
    slide_id: str
    path: str
    reason: str
    run: str = ""


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
        fingerprint: hash of samples of the slide's file; "" in ledgers of earlier versions.
    """

    fresh: bool
    early: bool
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Segmented(StepEvent):
    """One block was written.

    Attributes:
        block: (row, col) of the block.
    """

    block: Block


@dataclass(frozen=True, slots=True)
class Finished(StepEvent):
    """A slide is done.

    Attributes:
        run: run id of the call that has done it; "" in ledgers of earlier versions.
    """

    run: str = ""


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
        run: run id of the call in which it failed; "" in ledgers of earlier versions.
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
    run: str = ""


Event = Started | Submitted | LeftOut | Planned | Segmented | Finished | Failed


def to_line(event: Event) -> str:
    """JSON line of an event, with its line break."""
    values: dict[str, Any] = {"time": event.time, "event": _name(event)}
    names = (f.name for f in fields(event) if f.name not in ("time", "early"))
    values.update((name, getattr(event, name)) for name in names)
    return json.dumps(values, ensure_ascii=False) + "\n"


_NAMES: dict[type, str] = {
    Started: "start",
    Submitted: "slide",
    LeftOut: "left_out",
    Planned: "prepare",
    Segmented: "segment",
    Finished: "finish",
    Failed: "failed",
}
"""Name of each event in the file."""


def _name(event: Event) -> str:
    return "look" if isinstance(event, Planned) and event.early else _NAMES[type(event)]


def _started(line: dict[str, Any]) -> Started:
    if datetime.fromisoformat(line["time"]).tzinfo is None:
        raise ValueError("a time without its zone")
    about = tuple(line["slides"]), line["pixels_key"], _run(line)
    return Started(line["time"], line["command"], *about)


def _submitted(line: dict[str, Any]) -> Submitted:
    cells = {_encodable(name): _encodable(cell) for name, cell in line["cells"].items()}
    if len(cells) > _MOST_CELLS:
        raise ValueError(f"more than {_MOST_CELLS} cells of a manifest")
    about = str(line["time"]), line["slide_id"], str(line["path"])
    return Submitted(*about, int(line["size"]), int(line["mtime_ns"]), cells, _run(line))


def _encodable(value: Any) -> str:
    """Text that tables can hold: JSON can hold half a character."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _left_out(line: dict[str, Any]) -> LeftOut:
    path, reason = printable(str(line["path"])), printable(str(line["reason"]))
    return LeftOut(str(line["time"]), line["slide_id"], path, reason, _run(line))


def _run(line: dict[str, Any]) -> str:
    """Return the run id of an event, which names a file; "" in ledgers of earlier versions.

    Raises:
        ValueError: if it cannot be one.
    """
    run = str(line.get("run", ""))
    if run and not _is_plain(run):
        raise ValueError(f"{run!r:.100} cannot name a file")
    return run


def _planned(line: dict[str, Any], *, early: bool) -> Planned:
    return Planned(*_step(line), bool(line["fresh"]), early, str(line.get("fingerprint", "")))


def _failed(line: dict[str, Any]) -> Failed:
    time, slide_id, key, seconds = _step(line)
    step, reason, message = (printable(str(line[name])) for name in ("step", "reason", "message"))
    about = int(line["attempt"]), reason, message, str(line["traceback"]), _run(line)
    return Failed(time, step, slide_id, key, seconds, *about)


def _step(line: dict[str, Any]) -> tuple[str, str, str, float]:
    return str(line["time"]), line["slide_id"], str(line["key"]), float(line["seconds"])


_PARSERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "start": _started,
    "slide": _submitted,
    "left_out": _left_out,
    "look": lambda line: _planned(line, early=True),
    "prepare": lambda line: _planned(line, early=False),
    "segment": lambda line: Segmented(*_step(line), (int(line["block"][0]), int(line["block"][1]))),
    "finish": lambda line: Finished(*_step(line), _run(line)),
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
