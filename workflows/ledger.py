"""What was done, what failed and why: a JSON line an outcome, appended, never rewritten. All of a run's state."""

import json
import os
from collections import defaultdict
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from workflows.engines.base import Failure
from workflows.schedule import StepKind


class Ledger:
    """The journal of an output folder, ``ledger.jsonl``.

    A line that a killed run left unfinished is ignored. A block counts as done only under the key of its slide: another
    file, model or setting has another key.

    Args:
        path: the file; created when the first line is written.

    Raises:
        UsageError: if it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._seconds: dict[str, float] = defaultdict(float)
        try:
            self._read()
            self._file: TextIOWrapper = path.open("a", encoding="utf-8")
            self._end_torn_line()
        except OSError as error:
            raise UsageError(f"ledger {path} cannot be used: {error.strerror or error}") from error

    def blocks_done(self, key: str) -> set[tuple[int, int]]:
        """Blocks that are done under a slide's key."""
        return self._blocks[key]

    def seconds(self, key: str) -> float:
        """Time that all steps under a slide's key have taken, in all runs together (s)."""
        return self._seconds[key]

    def prepared(self, slide_id: str, key: str, seconds: float, *, fresh: bool) -> None:
        """Note that a slide was planned; ``fresh``: from nothing, so that no block of it stands any more."""
        self._append(
            {"event": "prepare", "slide_id": slide_id, "key": key, "seconds": round(seconds, 3), "fresh": fresh}
        )

    def segmented(self, slide_id: str, key: str, seconds: float, block: tuple[int, int]) -> None:
        """Note that a block was written."""
        seconds = round(seconds, 3)
        self._append({"event": "segment", "slide_id": slide_id, "key": key, "seconds": seconds, "block": list(block)})

    def finished(self, slide_id: str, key: str, seconds: float) -> None:
        """Note that a slide is done."""
        self._append({"event": "finish", "slide_id": slide_id, "key": key, "seconds": round(seconds, 3)})

    def failed(self, kind: StepKind, slide_id: str, failure: Failure, seconds: float) -> None:
        """Note that a step ended badly, with everything that is known of it."""
        self._append(
            {
                "event": "failed",
                "step": kind,
                "slide_id": slide_id,
                "seconds": round(seconds, 3),
                "reason": failure.reason,
                "message": failure.message,
                "traceback": failure.traceback,
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        self._take(line)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.write(json.dumps({"time": stamp, **line}, ensure_ascii=False) + "\n")
        self._file.flush()

    def _take(self, line: dict[str, Any]) -> None:
        if line["event"] == "failed":
            return
        key = line["key"]
        if line.get("fresh"):
            self._blocks.pop(key, None)
            self._seconds.pop(key, None)
        if "block" in line:
            self._blocks[key].add((line["block"][0], line["block"][1]))
        self._seconds[key] += line["seconds"]

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:  # the line that a killed run was writing; its step is simply done again
                    continue
                self._take(line)

    def _end_torn_line(self) -> None:
        """Start a line of its own after a torn one."""
        if self._file.tell() == 0:
            return
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                self._file.write("\n")
