"""What was done, what failed and why: a JSON line an outcome, appended, never rewritten. All of a
run's state.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.engines.base import Failure
from noctile.workflows.run.schedule import StepKind

Command = Literal["run", "plan"]

_Content = tuple[str, str]
"""A slide and its key."""


@dataclass(frozen=True, slots=True)
class Failed:
    """How a slide failed in an earlier run.

    Attributes:
        key: what the slide, the model and the settings were then (`noctile.workflows.run.run`).
        reason: code.
        message: for people.
    """

    key: str
    reason: str
    message: str


class Ledger:
    """The journal of an output folder, ``ledger.jsonl``.

    A line that a killed run left unfinished is ignored. A block counts as done only for its slide
    and under the slide's key: another file, model or setting has another key, and two slides with
    the same content have the same. What is remembered does not grow with blocks, only with slides.

    Args:
        path: the file; created when there is none.

    Raises:
        UsageError: if it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: dict[
            _Content, set[tuple[int, int]]
        ] = {}  # of slides that are begun and not done
        self._seconds: dict[_Content, float] = defaultdict(float)
        self._failed: dict[str, Failed] = {}
        self._planned: set[str] = set()
        self._done: dict[
            str, str
        ] = {}  # keys of slides of which being done is the last that was noted
        self._attempts: dict[str, int] = defaultdict(int)
        try:
            self._read()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._end_torn_line()
        except OSError as error:
            raise UsageError(f"ledger {path} cannot be used: {error.strerror or error}") from error

    def blocks_done(self, slide_id: str, key: str) -> set[tuple[int, int]]:
        """Blocks that are done of a slide that is not, under its key."""
        return set(self._blocks.get((slide_id, key), ()))

    def seconds(self, slide_id: str, key: str) -> float:
        """Time that all steps of a slide under its key have taken, in all runs together (s)."""
        return self._seconds.get((slide_id, key), 0.0)

    def failure(self, slide_id: str) -> Failed | None:
        """How a slide failed when it was last tried; None if it did not."""
        return self._failed.get(slide_id)

    def is_done(self, slide_id: str, key: str) -> bool:
        """Whether the last that was noted of a slide is that it is done under its key."""
        return self._done.get(slide_id) == key

    def has_planned(self, slide_id: str) -> bool:
        """Whether a slide has been opened and planned, in whatever run."""
        return slide_id in self._planned

    def attempts(self, slide_id: str) -> int:
        """How often a slide has failed, in all runs together."""
        return self._attempts.get(slide_id, 0)

    def started(self, command: Command, slide_ids: Iterable[str], pixels_key: str) -> None:
        """Note that a run or its preflight has begun, for `noctile status`.

        Args:
            command: which of them.
            slide_ids: that were submitted.
            pixels_key: of all that masks depend on beside their slides.
        """
        self._append(
            {
                "event": "start",
                "command": command,
                "slides": list(slide_ids),
                "pixels_key": pixels_key,
            }
        )

    def prepared(self, slide_id: str, key: str, seconds: float, *, fresh: bool) -> None:
        """Note that a slide was planned; ``fresh``: from nothing, so that no block of it stands any
        more.
        """
        self._append(
            {
                "event": "prepare",
                "slide_id": slide_id,
                "key": key,
                "seconds": round(seconds, 3),
                "fresh": fresh,
            }
        )

    def looked(self, slide_id: str, key: str, seconds: float, *, fresh: bool) -> None:
        """Note that a slide was planned before its turn; see `prepared`."""
        self._append(
            {
                "event": "look",
                "slide_id": slide_id,
                "key": key,
                "seconds": round(seconds, 3),
                "fresh": fresh,
            }
        )

    def segmented(self, slide_id: str, key: str, seconds: float, block: tuple[int, int]) -> None:
        """Note that a block was written."""
        seconds = round(seconds, 3)
        self._append(
            {
                "event": "segment",
                "slide_id": slide_id,
                "key": key,
                "seconds": seconds,
                "block": list(block),
            }
        )

    def finished(self, slide_id: str, key: str, seconds: float) -> None:
        """Note that a slide is done."""
        self._append(
            {"event": "finish", "slide_id": slide_id, "key": key, "seconds": round(seconds, 3)}
        )

    def failed(
        self,
        kind: StepKind,
        slide_id: str,
        key: str,
        failure: Failure,
        seconds: float,
        *,
        first: bool = True,
    ) -> None:
        """Note that a step ended badly, with everything that is known of it.

        ``first``: the slide fails of it; steps that were under way then may fail after it.
        """
        self._append(
            {
                "event": "failed",
                "step": kind,
                "slide_id": slide_id,
                "key": key,
                "seconds": round(seconds, 3),
                "attempt": self.attempts(slide_id) + first,
                "reason": failure.reason,
                "message": failure.message,
                "traceback": failure.traceback,
            }
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, line: dict[str, Any]) -> None:
        """Write a line at once, at the end of the file, wherever that is by now.

        Raises:
            StoreError: if the file system refuses.
        """
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = (json.dumps({"time": stamp, **line}, ensure_ascii=False) + "\n").encode(
            "utf-8", "backslashreplace"
        )
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as error:
            raise StoreError(
                f"ledger {self._path} cannot be written: {error.strerror or error}"
            ) from error
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if line["event"] == "start":
            return
        slide_id, key = line["slide_id"], line["key"]
        self._done.pop(slide_id, None)
        if line["event"] == "failed":
            self._failed.setdefault(slide_id, Failed(key, line["reason"], line["message"]))
            self._attempts[slide_id] = line["attempt"]
            return
        content = slide_id, key
        if line["event"] == "finish":
            self._done[slide_id] = key
        if line["event"] == "finish" or line.get("fresh"):
            self._blocks.pop(content, None)
        if line.get("fresh"):
            self._seconds.pop(content, None)
        if "block" in line:
            self._blocks.setdefault(content, set()).add((line["block"][0], line["block"][1]))
        else:  # prepared or done: it is no failure any more
            self._failed.pop(slide_id, None)
            self._planned.add(slide_id)
        self._seconds[content] += line["seconds"]

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            for text in lines:
                try:
                    self._take(json.loads(text))
                except (
                    ValueError,
                    TypeError,
                    KeyError,
                ):  # half a line of a killed run: that step is done again
                    continue

    def _end_torn_line(self) -> None:
        """Start a line of its own after a torn one."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")
