"""Join folders of results: every slide of the sources comes to one folder, each content once.

The folders that slides come from are only read. Each result is copied into ``.staging/``, compared
with its checksums, and moved to its place. The same command continues after a kill.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands.merge_copy import (
    DamagedResultError,
    check_space,
    copy_result,
    size_of,
)
from noctile.workflows.commands.merge_ids import Arrival, Content, MergedIds
from noctile.workflows.commands.merge_reviews import take_reviews
from noctile.workflows.commands.merge_source import Source, contents
from noctile.workflows.commands.table import held_for_tables, import_cells
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.guard import check_free
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.ledger_state import SlideState
from noctile.workflows.results.report import Report
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.staging import clean_up, promote
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables


@dataclass(slots=True)
class MergeResult:
    """Result of ``noctile merge``.

    Attributes:
        copied: number of results that were copied.
        stood: number of results that the folder had already.
        renamed: line for each slide that has another id in the folder.
        refused: line for each result that was not taken, because another model or other settings
            made the one that stands.
        damaged: line for each result that was not taken, because it is not as it was written.
        notes: line for each cell of a manifest, and each review, that differs from the one that
            stands.
        counts: number of slides in the tables by status.
    """

    copied: int = 0
    stood: int = 0
    renamed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if every result stands in the folder now, else 1."""
        return 1 if self.refused or self.damaged else 0


def merge_results(
    folders: Sequence[Path], out: Path, observe: Callable[[str], None]
) -> MergeResult:
    """Bring the slides of some folders of results to one folder.

    Args:
        folders: folders of results; where two have the same slide, the first one counts.
        out: folder that the slides come to: a new or empty one, or one with results, which stay.
        observe: called with a line for each slide that was copied.

    Raises:
        UsageError: if a folder holds no results, a run is at work in one, or the disk is too small.
        StoreError: if the file system refuses.
    """
    sources = [Source(path) for path in folders]
    _check_apart(sources, out)
    results = ResultsFolder(out)
    try:
        check_free(results)
        results.slides.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    with held_for_tables(out) as (results, ledger):
        import_cells(results, ledger)
        merge = _Merge(results, ledger, observe)
        merge.check_space(sources)
        try:
            merge.take(sources)
        finally:
            merge.result.counts = merge.write_tables()
    return merge.result


def _check_apart(sources: Sequence[Source], out: Path) -> None:
    """Check that the slides come to another folder than those that they come from.

    Raises:
        UsageError: if they do not.
    """
    target = out.resolve()
    for source in sources:
        if target.is_relative_to(source.results.path):
            inside = "is" if target == source.results.path else "lies in"
            raise UsageError(
                f"--out {out} {inside} {source.name}, which is only read. Choose another --out; to "
                f"add other folders to {source.name}, name it as --out alone"
            )


class _Merge:
    """Merge into one folder, which is held.

    Args:
        results: the folder.
        ledger: its ledger.
        observe: called with a line for each slide that was copied.

    Attributes:
        result: counts and lines so far.
    """

    def __init__(
        self, results: ResultsFolder, ledger: Ledger, observe: Callable[[str], None]
    ) -> None:
        self.result = MergeResult()
        self._results, self._ledger, self._observe = results, ledger, observe
        self._standing, self._reviews = Standing(results, ledger.state), Reviews(results)
        taken = (path.name for path in results.slides.iterdir())
        self._ids = MergedIds(contents(self._standing, ledger.state), taken)

    def check_space(self, sources: Sequence[Source]) -> None:
        """Check that everything that is to be copied fits on the disk.

        Raises:
            UsageError: if it does not.
        """
        ids = self._ids.copy()
        needed = sum(
            size_of(source.results.slide(arrival.slide_id))
            for source in sources
            for arrival in ids.arrive(source.done, set())
            if arrival.action == "copy"
        )
        check_space(self._results.path, needed)

    def take(self, sources: Sequence[Source]) -> None:
        """Take all results, then all slides that have none anywhere.

        Raises:
            StoreError: if the file system refuses.
        """
        used: list[set[str]] = [set() for _ in sources]
        final_ids: dict[Source, dict[str, str]] = {source: {} for source in sources}
        runs = [source.copy_records(self._results) for source in sources]
        for source, ids, names in zip(sources, used, runs, strict=True):
            source.copy_log(self._results)
            self._name_damaged(source)
            for arrival in self._ids.arrive(source.done, ids):
                if self._take_result(source, arrival, names):
                    final_ids[source][arrival.slide_id] = arrival.final_id
        for source, ids, names in zip(sources, used, runs, strict=True):
            for arrival in self._ids.arrive(source.others, ids):
                self._take_other(source, arrival, names)
                final_ids[source][arrival.slide_id] = arrival.final_id
            reviews = take_reviews(source, self._reviews, final_ids[source])
            self.result.damaged += reviews.damaged
            self.result.notes += reviews.notes
            if source.results.audit_design.exists():
                self.result.notes.append(
                    f"the audit of {source.name} stays there: its points stand for the slides of "
                    f"that folder alone; `noctile audit {self._results.path}` draws new ones"
                )

    def write_tables(self) -> Mapping[str, int]:
        """Write the tables, and return the number of slides by status.

        Raises:
            StoreError: if the file system refuses.
        """
        with suppress(OSError):  # a slide of an interrupted run is in it
            self._results.staging.rmdir()
        Tables(self._results, self._standing).write()
        Report(self._results).write()
        return Counter(row.status for row in self._standing.rows())

    def _name_damaged(self, source: Source) -> None:
        for slide_id, why in source.damaged.items():
            self._add_damaged(source, slide_id, why)

    def _add_damaged(self, source: Source, slide_id: str, why: str) -> None:
        where = source.results.slide(slide_id).path
        line = f"{slide_id} of {source.name} is left out: {why}; see `noctile verify {source.name}`"
        self.result.damaged.append(line if where.exists() else line.partition("; see")[0])

    def _take_result(self, source: Source, arrival: Arrival, runs: Mapping[str, str]) -> bool:
        """Take one result; return False if it is left out."""
        final_id, action = arrival.final_id, arrival.action
        if action == "refuse":
            self.result.refused.append(
                f"{arrival.slide_id} of {source.name} is left out: the same slide stands in "
                f"{self._results.path} as {final_id}, made with another model, other settings or "
                "another version; merge it into another --out"
            )
            return False
        if action == "stands" and slide_fault(self._results.slide(final_id)) is None:
            self.result.stood += 1
        elif not self._copy(source, arrival):
            return False
        self._note(source, arrival, runs)
        ours = self._state_of(final_id)
        if action == "copy" or not (ours.done_by or ours.stage == "done"):
            self._ledger.copied(*source.finished(arrival.slide_id, final_id, dict(runs)))
        return True

    def _copy(self, source: Source, arrival: Arrival) -> bool:
        """Copy one result; return False if it is damaged."""
        slide_id, final_id = arrival.slide_id, arrival.final_id
        staged, final = self._results.staged(final_id), self._results.slide(final_id)
        try:
            copy_result(source.results.slide(slide_id), staged)
        except DamagedResultError as error:
            self._add_damaged(source, slide_id, str(error))
            if arrival.action == "copy":
                self._ids.withdraw(final_id, self._known_before(final_id))
            return False
        promote(staged, final)
        try:
            clean_up(self._results, final_id)
        except OSError as error:
            raise StoreError(f"{final.path} cannot be cleaned up: {error}") from error
        self._standing.done(final_id, read_required_json(final.summary))
        self.result.copied += 1
        renamed = f" as {final_id}" if final_id != slide_id else ""
        if renamed:
            self.result.renamed.append(f"{slide_id} of {source.name} is {final_id}")
        self._observe(f"{slide_id} of {source.name} copied{renamed}")
        return True

    def _known_before(self, slide_id: str) -> Content | None:
        """Slide that has an id by the ledger alone."""
        return contents(self._standing, self._ledger.state).get(slide_id)

    def _take_other(self, source: Source, arrival: Arrival, runs: Mapping[str, str]) -> None:
        slide_id, final_id = arrival.slide_id, arrival.final_id
        theirs, is_new = source.slide(slide_id), arrival.action == "copy"
        ours = self._state_of(final_id)
        if not is_new and not (ours.submitted and not ours.left_out):
            return
        if theirs.submitted or (is_new and not theirs.left_out):
            self._note(source, arrival, runs)
        done = final_id in self._standing.summaries
        knows_more = (theirs.failure or theirs.left_out) and not (ours.failure or ours.left_out)
        if is_new or (knows_more and not done):
            events = source.not_finished(slide_id, final_id, dict(runs))
            self._ledger.copied(*events)
            source.copy_report(slide_id, self._results.failure_report(final_id))

    def _note(self, source: Source, arrival: Arrival, runs: Mapping[str, str]) -> None:
        """Record path and cells of a slide; those that stand in the folder stay."""
        slide_id, final_id = arrival.slide_id, arrival.final_id
        theirs, ours = source.slide(slide_id), self._state_of(final_id).submitted
        cells = dict(theirs.submitted.cells) if theirs.submitted else {}
        if ours is None:
            last = theirs.submitted
            path = last.path if last else str(source.summary(slide_id).get("path") or "")
            times = (last.size, last.mtime_ns) if last else (-1, -1)
            run = runs.get(theirs.named, theirs.named)
            self._ledger.submitted(final_id, path, times, cells, run)
            return
        for name, cell in cells.items():
            if (stands := ours.cells.get(name, cell)) != cell:
                self.result.notes.append(
                    f"{final_id}: {name} stays {stands}; {source.name} has {cell}"
                )
        new = {name: cell for name, cell in cells.items() if name not in ours.cells}
        self._ledger.submitted(final_id, ours.path, (ours.size, ours.mtime_ns), new)

    def _state_of(self, slide_id: str) -> SlideState:
        return self._ledger.state.slide(slide_id)
