"""Folder of results whose slides come to another folder; it is only read."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import printable, read_text
from noctile.workflows.commands.merge_ids import Content, made_by
from noctile.workflows.commands.status import current_run
from noctile.workflows.commands.table import import_cells
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.events import Event, Failed, Finished, LeftOut, Planned
from noctile.workflows.results.files import read_json, write_atomic, write_json
from noctile.workflows.results.guard import check_holds_results, check_links
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.ledger_state import LedgerState, SlideState
from noctile.workflows.results.standing import Standing

_LOG_BYTES, _REPORT_BYTES = 2**28, 2**22
"""Largest log of runs and largest report of a failure that are copied (B)."""


class Source:
    """Folder of results whose slides come to another folder.

    Args:
        path: the folder.

    Attributes:
        name: path as the user typed it.
        results: paths in the folder.
        done: slides that have a result, by id.
        others: slides that the folder knows and that have no result, by id.
        damaged: message about each result that cannot be read, by id.

    Raises:
        UsageError: if the folder holds no results, a run is at work there, a part of it is a link,
            or it cannot be read.
        StoreError: if the disk cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.results = str(path), ResultsFolder(path.resolve())
        check_holds_results(self.results, path)
        if (run := current_run(path)) and run.alive:
            raise UsageError(f"a run is at work in {path} ({run.holder}); wait until it has ended")
        try:
            check_links(self.results)
            ledger = Ledger(self.results.ledger, read_only=True)
            import_cells(self.results, ledger)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        self._state = ledger.state
        self._standing = Standing(self.results, self._state, reads_only=True)
        known = contents(self._standing, self._state)
        self.done = {i: s for i, s in known.items() if s.made_by}
        self.damaged = dict(self._damaged())
        for slide_id in self.damaged:
            self.done.pop(slide_id, None)
        kept_out = {*self.done, *self.damaged}
        self.others = {i: slide for i, slide in known.items() if i not in kept_out}

    def _damaged(self) -> Iterator[tuple[str, str]]:
        yield from self._standing.damaged.items()
        for slide_id, slide in self.done.items():
            if not slide.fingerprint:
                yield slide_id, "its summary.json does not say from which file it was made"
        for path in sorted(self.results.staging.glob("*")):
            with suppress(StoreError, OSError):
                if path.name not in self.done and slide_fault(SlideFolder(path)) is None:
                    out = self.name
                    yield path.name, f"its run was killed at the end; `noctile table {out}` helps"

    @property
    def known(self) -> set[str]:
        """Ids of all slides of the folder."""
        return {*self.done, *self.others, *self.damaged}

    def slide(self, slide_id: str) -> SlideState:
        """Return the state of a slide by the ledger of this folder."""
        return self._state.slide(slide_id)

    def summary(self, slide_id: str) -> dict[str, Any]:
        """Return the summary of a slide; empty for a slide without a result."""
        return dict(self._standing.summaries.get(slide_id, {}))

    def run_of(self, slide_id: str) -> str:
        """Return the run id of the call that made the result of a slide; "" if it is unknown."""
        return self._state.made_by(slide_id, str(self.summary(slide_id).get("key")))

    def finished(self, slide_id: str, final_id: str, runs: dict[str, str]) -> list[Event]:
        """Return the events that tell the end of a slide in another ledger.

        Args:
            slide_id: id of the slide in this folder.
            final_id: its id in the other folder.
            runs: run id in the other folder, by the run id in this one.
        """
        slide, key = self.slide(slide_id), str(self.summary(slide_id).get("key"))
        seconds, run = self._state.seconds(slide_id, key), self.run_of(slide_id)
        end = Finished(_now(), final_id, key, round(seconds, 3), runs.get(run, run))
        return [end, *self._failed(slide, final_id, runs)]

    def not_finished(self, slide_id: str, final_id: str, runs: dict[str, str]) -> list[Event]:
        """Return the events that tell of a slide without a result; see `finished`."""
        slide, events = self.slide(slide_id), list[Event]()
        if slide.fingerprint:
            about = 0.0, False, True, slide.fingerprint
            events.append(Planned(_now(), final_id, slide.key, *about))
        events += self._failed(slide, final_id, runs)
        if last := slide.left_out:
            run = runs.get(last.run, last.run)
            events.append(LeftOut(_now(), final_id, last.path, last.reason, run))
        return events

    def _failed(self, slide: SlideState, final_id: str, runs: dict[str, str]) -> Iterator[Failed]:
        if failure := slide.failure:
            about = failure.step, final_id, failure.key, failure.seconds, failure.attempt
            run = runs.get(slide.failed_in, slide.failed_in)
            yield Failed(_now(), *about, failure.reason, failure.message, run=run)

    def copy_report(self, slide_id: str, target: Path) -> None:
        """Copy the report of a failure, if there is one.

        Raises:
            StoreError: if the copy cannot be written.
        """
        try:
            text = read_text(self.results.failure_report(slide_id), _REPORT_BYTES)
        except (OSError, ValueError):
            return
        write_atomic(target, lambda path: path.write_text(text, encoding="utf-8"))

    def copy_records(self, results: ResultsFolder) -> dict[str, str]:
        """Copy the record of each run; one whose id another run has there gets a number.

        Args:
            results: folder that the records come to.

        Returns:
            run id there, by the run id in this folder.

        Raises:
            StoreError: if a copy cannot be written.
        """
        runs = {}
        for path in sorted(self.results.runs.glob("*.json")):
            with suppress(StoreError):
                record = read_json(path)
                if record and not slide_id_problem(path.stem):
                    runs[path.stem] = _free_run(path.stem, record, results)
        for run, final in runs.items():
            if not results.run_record(final).exists():
                record = read_json(self.results.run_record(run)) or {}
                write_json(results.run_record(final), record | {"run": final})
        return runs

    def copy_log(self, results: ResultsFolder) -> None:
        """Add the lines of this folder's log that the log of another folder does not have.

        Raises:
            StoreError: if the log cannot be written.
        """
        ours, theirs = _log_lines(self.results.run_log), _log_lines(results.run_log)
        if ours is None or theirs is None or results.run_log.is_symlink():
            return
        known = set(theirs)
        if new := [line for line in ours if line not in known]:
            text = "".join(f"{line}\n" for line in [*theirs, *new])
            write_atomic(results.run_log, lambda path: path.write_text(text, encoding="utf-8"))


def contents(standing: Standing, state: LedgerState) -> dict[str, Content]:
    """Return the content of each slide that a folder of results knows, by id.

    Args:
        standing: slides that stand in the folder.
        state: state that the folder's ledger adds up to.
    """
    return {
        i: _content(state.slide(i), dict(standing.summaries.get(i, {})))
        for i in sorted({*state.slides, *standing.summaries, *standing.damaged})
    }


def _content(slide: SlideState, summary: dict[str, Any]) -> Content:
    last = slide.submitted or slide.left_out
    path = last.path if last else str(summary.get("path") or "")
    if summary:
        sampled, full = (str(summary.get(k) or "") for k in ("fingerprint", "content_sha256"))
        return Content(path, sampled, made_by(summary), full)
    return Content(path, slide.fingerprint, "")


def _free_run(run: str, record: dict[str, Any], results: ResultsFolder) -> str:
    """Return the run id under which a record stands in a folder, or can be written there."""
    number, free = 1, run
    while results.run_record(free).exists():
        stands = read_json(results.run_record(free)) or {}
        if stands | {"run": ""} == record | {"run": ""}:
            break
        number += 1
        free = f"{run}-{number}"
    return free


def _log_lines(path: Path) -> list[str] | None:
    """Lines of a log; empty if it is missing, None if it is no text, or too large."""
    try:
        return [printable(line) for line in read_text(path, _LOG_BYTES).splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
