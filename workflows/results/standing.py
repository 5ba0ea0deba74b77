"""Slides that stand in a folder of results, as rows of its tables."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError
from noctile.pipeline.slides.identity import ID_TAKEN
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import printable
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import read_ledger
from noctile.workflows.results.ledger_state import LedgerState, SlideState
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.summaries import is_sound

_KEPT_CELLS = ("patient_id", "group")
"""Columns of a manifest that have a column of their own in the tables."""


class Standing:
    """Every slide that a folder of results knows, from all calls.

    A slide that has a summary is done, also if a later call on it failed. The ledger has the state
    of all others. The rows are thus a function of what is on the disk.

    Args:
        results: folder of results.
        state: state that the ledger adds up to; it may change later.
        reads_only: True to write nothing, not even areas without the regions of reviewers.

    Attributes:
        summaries: summary of each slide that is done, by id.
        damaged: message about each summary that cannot be used, by id.
        review_faults: message about each file of reviews that cannot be used.
        reviewed_elsewhere: ids of reviewed slides that this folder does not know.
    """

    def __init__(
        self, results: ResultsFolder, state: LedgerState, *, reads_only: bool = False
    ) -> None:
        self._results, self._state = results, state
        self._reviews = Reviews(results, keeps_areas=not reads_only)
        self.review_faults: list[str] = []
        self.reviewed_elsewhere: list[str] = []
        self.damaged: dict[str, str] = {}
        self._stop_reasons: dict[str, str] = {}
        self.summaries: dict[str, Mapping[str, Any]] = {}
        self.read_again()

    def read_again(self) -> None:
        """Read all summaries again.

        A step that was interrupted may have moved a result to its place without a report.

        Raises:
            StoreError: if the folder of the results cannot be read.
        """
        self.damaged.clear()
        self.summaries = dict(self._read(_folders(self._results.slides)))

    def _read(self, folders: Iterable[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for folder in folders:
            try:
                summary = read_json(self._results.slide(folder.name).summary)
            except StoreError as error:
                self.damaged[folder.name] = str(error)
                continue
            if summary is None:
                continue
            if is_sound(summary):
                yield folder.name, summary
            else:
                what = "holds values of other types; it was not written by noctile"
                path = self._results.slide(folder.name).summary
                self.damaged[folder.name] = f"{path} {what}; delete it, and run again"

    def done(self, slide_id: str, summary: Mapping[str, Any]) -> None:
        """Note the new summary of a slide."""
        self.summaries[slide_id] = summary
        self.damaged.pop(slide_id, None)

    def rows(self) -> list[SlideRow]:
        """Return one row for each slide, sorted by id.

        A slide that was refused its id, and that has another id since, has one row.
        """
        self._stop_reasons.clear()
        ids = sorted({*self._state.slides, *self.summaries, *self.damaged})
        reviews = self._review_cells()
        self.reviewed_elsewhere = sorted(reviews.keys() - set(ids))
        rows = [replace(self.row(i), review=reviews.get(i, {})) for i in ids]
        taken = {row.path for row in rows if row.reason != ID_TAKEN}
        return [row for row in rows if row.reason != ID_TAKEN or row.path not in taken]

    def _review_cells(self) -> dict[str, dict[str, Any]]:
        """Cells that reviewers fill, of each slide with a review, by its id."""
        self.review_faults.clear()
        cells: dict[str, dict[str, Any]] = {}
        try:
            reviewed = self._reviews.reviewed()
        except StoreError as error:
            self.review_faults.append(str(error))
            return cells
        for slide_id, rows in reviewed.items():
            summary = self.summaries.get(slide_id, {})
            cells[slide_id] = self._reviews.status_cells(rows, summary)
            try:
                cells[slide_id] |= self._reviews.area_cells(slide_id, summary)
            except StoreError as error:
                self.review_faults.append(str(error))
        return cells

    def row(self, slide_id: str) -> SlideRow:
        """Return the row of one slide."""
        slide = self._state.slide(slide_id)
        if summary := self.summaries.get(slide_id):
            return self._done(slide_id, slide, summary)
        submitted = slide.submitted
        path = Path(submitted.path if submitted else "")
        about = manifest_fields(submitted.cells if submitted else {})
        if slide.left_out:
            last = slide.left_out
            code, _, why = last.reason.partition(": ")
            return SlideRow(slide_id, Path(last.path), "skipped", code, why, last.run, **about)
        if slide.failure:
            code, why = slide.failure.reason, slide.failure.message
            return SlideRow(slide_id, path, "failed", code, why, slide.failed_in, **about)
        if why := self.damaged.get(slide_id, ""):
            return SlideRow(slide_id, path, "failed", StoreError.reason, why, slide.named, **about)
        why = self._stop_reason(slide.named)
        code = "stopped" if why else "waiting"
        return SlideRow(slide_id, path, "skipped", code, why, slide.named, **about)

    def _done(self, slide_id: str, slide: SlideState, summary: Mapping[str, Any]) -> SlideRow:
        failure, submitted = slide.failure, slide.submitted
        later = f"a later run failed: {failure.reason}: {failure.message}" if failure else ""
        seconds = self._state.seconds(slide_id, str(summary.get("key")))
        return SlideRow(
            slide_id,
            Path((submitted and submitted.path) or str(summary.get("path"))),
            "done",
            message=later,
            run=self._state.made_by(slide_id, str(summary.get("key"))),
            summary=summary,
            seconds=round(seconds, 1),
            **manifest_fields(submitted.cells if submitted else {}),
        )

    def _stop_reason(self, run: str) -> str:
        """Reason why a run was stopped; "" if it was not, or is at work, or was killed."""
        if run not in self._stop_reasons:
            record = _record(self._results.run_record(run)) if run else {}
            self._stop_reasons[run] = printable(str(record.get("stopped") or ""))
        return self._stop_reasons[run]

    def class_names(self) -> list[str]:
        """Return the names of all classes: of the last run's model, then of other summaries."""
        runs = sorted(self._results.runs.glob("*.json"))
        last = _record(runs[-1]).get("classes") if runs else None
        listed = last if isinstance(last, list) else ()
        names = dict.fromkeys(name for name in listed if isinstance(name, str))
        for _, summary in sorted(self.summaries.items()):
            names |= dict.fromkeys(summary.get("class_area_mm2", ()))
        return list(names)


def read_standing(results: ResultsFolder) -> Standing:
    """Read what stands in a folder, which may be in use by a run; nothing is written.

    Raises:
        StoreError: if the ledger or the results cannot be read.
    """
    try:
        state = read_ledger(results.ledger)
    except FileNotFoundError:
        state = LedgerState()
    except OSError as error:
        raise StoreError(f"{results.ledger} cannot be read: {error.strerror or error}") from error
    return Standing(results, state, reads_only=True)


def manifest_fields(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a `SlideRow` that hold the cells of a manifest.

    Args:
        cells: cells that are not empty, by the name of their column.
    """
    extra = tuple((name, cell) for name, cell in cells.items() if name not in _KEPT_CELLS)
    return {name: cells.get(name) for name in _KEPT_CELLS} | {"extra": extra}


def _folders(slides: Path) -> list[Path]:
    """Folders whose names can be a slide_id."""
    try:
        return [p for p in slides.iterdir() if p.is_dir() and not slide_id_problem(p.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{slides} cannot be read: {error.strerror or error}") from error


def _record(path: Path) -> Mapping[str, Any]:
    """Read the record of a run; empty if it is missing or damaged."""
    try:
        return read_json(path) or {}
    except StoreError:
        return {}
