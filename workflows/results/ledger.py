"""Ledger of a folder of results: one JSON line for each event, appended and never rewritten."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.untrusted import read_lines
from noctile.workflows.engines.base import Failure
from noctile.workflows.results.durable import sync_folder
from noctile.workflows.results.events import (
    Block,
    Command,
    Event,
    Failed,
    Finished,
    LeftOut,
    Planned,
    Segmented,
    Started,
    Submitted,
    parse_events,
    to_line,
)
from noctile.workflows.results.ledger_state import LedgerState, replay
from noctile.workflows.results.retry import retried

MAX_LEDGER_BYTES, MAX_LINE_BYTES = 2**32, 2**26
"""Largest ledger and longest line of it that are read (B). A run of 100,000 slides writes a line of
5 MB at its start, and a ledger of 1 GB."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
"""Flags to open the ledger. A link in its place is an error: it may lead out of the folder."""

SYNC_S = 0.5
"""Shortest time between two syncs of the ledger (s). A power cut loses the lines since the last
one, and the next run repeats their steps."""


class Ledger:
    """Writer of ``ledger.jsonl``, from which an interrupted run is resumed.

    A line that a killed run left unfinished is ignored. A block counts as done if slide id and
    key both match. The key changes with the file, the model and the settings. The id is needed too:
    two slides with equal content have equal keys.

    Files are on the disk before their line is written. The lines themselves are synced together,
    because nothing relies on a line before the next run. (docs/decisions/0027)

    Args:
        path: path of the file; it is created if it does not exist.
        read_only: True for a command that changes no result: its events update ``state`` alone.

    Attributes:
        state: state that the events of all runs add up to, kept up to date.

    Raises:
        UsageError: if it cannot be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._file: int | None = None
        self._synced = 0.0
        try:
            self.state = read_ledger(path) if path.exists() else LedgerState()
            if read_only:
                return
            self._file = os.open(path, _FLAGS, 0o666)
            _end_torn_line(self._file)
            self._sync()
            sync_folder(path.parent)
        except OSError as error:
            raise UsageError(f"ledger {path} cannot be used: {error.strerror or error}") from error

    def started(
        self, command: Command, slide_ids: Iterable[str], pixels_key: str, run: str = ""
    ) -> None:
        """Record the start of ``noctile run``, ``plan``, ``regroup`` or ``diff``."""
        self._append(Started(_now(), command, tuple(slide_ids), pixels_key, run))

    def submitted(
        self,
        slide_id: str,
        path: str,
        file_state: tuple[int, int],
        cells: Mapping[str, str],
        run: str = "",
    ) -> None:
        """Record that a call names a slide, unless the ledger has all of it already.

        Args:
            slide_id: id of the slide.
            path: path of the slide.
            file_state: size (B) and time of modification (ns) of its file; -1, -1 without a file.
            cells: cells of the manifest that are not empty, by the name of their column.
            run: run id of the call.
        """
        event = Submitted(_now(), slide_id, path, *file_state, dict(cells), run)
        slide = self.state.slide(slide_id)
        before = None if slide.left_out else slide.submitted
        is_same = before and (before.path, before.size, before.mtime_ns) == (path, *file_state)
        if not (before and is_same and cells.items() <= before.cells.items()):
            self._append(event)

    def left_out(self, slide_id: str, path: str, reason: str, run: str) -> None:
        """Record that a call does not take a path that it found; see `LeftOut`."""
        self._append(LeftOut(_now(), slide_id, path, reason, run))

    def planned(
        self,
        slide_id: str,
        key: str,
        seconds: float,
        *,
        fresh: bool,
        early: bool = False,
        fingerprint: str = "",
    ) -> None:
        """Record that a slide was planned; see `Planned`."""
        event = Planned(_now(), slide_id, key, round(seconds, 3), fresh, early, fingerprint)
        self._append(event)

    def segmented(self, slide_id: str, key: str, seconds: float, block: Block) -> None:
        """Record that a block was written."""
        self._append(Segmented(_now(), slide_id, key, round(seconds, 3), block))

    def finished(self, slide_id: str, key: str, seconds: float) -> None:
        """Record that a slide is done, by the call that has worked on it last."""
        slide = self.state.slide(slide_id)
        known = slide.worked_in if slide.key == key else ""
        self._append(Finished(_now(), slide_id, key, round(seconds, 3), known or self._run))

    def failed(
        self,
        step: str,
        slide_id: str,
        key: str,
        failure: Failure,
        seconds: float,
        *,
        first: bool = True,
    ) -> None:
        """Record that a step failed, with everything that is known about the failure.

        Args:
            step: kind of the step.
            slide_id: id of the slide.
            key: hash of the slide's file, the model and the settings.
            failure: reason, message and traceback.
            seconds: duration of the step (s).
            first: True if the slide fails by this step; False if it had failed already, and the
                step was still under way.
        """
        attempt = self.state.attempts(slide_id) + first
        about = failure.reason, failure.message, failure.traceback, self._run
        self._append(Failed(_now(), step, slide_id, key, round(seconds, 3), attempt, *about))

    def copied(self, *events: Event) -> None:
        """Record events of another folder's ledger; a kill loses the last ones at most."""
        for event in events:
            self._append(event)

    def close(self) -> None:
        """Sync the file, if the disk is still there, and close it."""
        with suppress(OSError):
            self._sync()
        if self._file is not None:
            os.close(self._file)

    @property
    def _run(self) -> str:
        """Run id of the call that has started last."""
        return self.state.start.run if self.state.start else ""

    def _append(self, event: Event) -> None:
        """Write an event at once, at the end of the file.

        Raises:
            StoreError: if the file system refuses.
        """
        text = to_line(event).encode("utf-8", "backslashreplace")
        try:
            while text and self._file is not None:
                text = text[retried(partial(os.write, self._file, text)) :]
            self.state.take(event)  # before the sync, which can fail or be interrupted
            if time.monotonic() - self._synced >= SYNC_S:
                self._sync()
        except OSError as error:
            raise StoreError(
                f"ledger {self._path} cannot be written: {error.strerror or error}"
            ) from error

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file)
        self._synced = time.monotonic()


def _end_torn_line(file: int) -> None:
    """Write a line break after a line that a killed run left unfinished."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


def read_ledger(path: Path) -> LedgerState:
    """Read a ledger; a run may be writing to it.

    Raises:
        OSError: if it cannot be read, is no regular file, or is too large.
    """
    state = LedgerState()
    return replay(read_events(path, state), state)


def read_events(path: Path, state: LedgerState) -> Iterator[Event]:
    """Read the events of a ledger one by one; lines that are too long or damaged are left out.

    Args:
        path: path of the ledger.
        state: state to which the number of lines that are too long is added.

    Raises:
        OSError: if it cannot be read, is no regular file, or is too large.
    """
    return parse_events(_short_lines(path, state))


def _short_lines(path: Path, state: LedgerState) -> Iterator[str]:
    for line in read_lines(path, MAX_LEDGER_BYTES, MAX_LINE_BYTES):
        if line is None:
            state.long_lines += 1
        else:
            yield line


def long_lines_note(path: Path, count: int) -> str:
    """Line for the user about lines of a ledger that are too long; "" if there are none."""
    if not count:
        return ""
    what = "1 line is" if count == 1 else f"{count} lines are"
    return f"{path}: {what} longer than {MAX_LINE_BYTES} bytes, which no run writes; left out"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
