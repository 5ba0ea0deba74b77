"""Results with other classes: the slides of a folder, with merged classes or another threshold.

Nothing is predicted again: labels and tumor map are those that were stored. The folder that the
slides come from is only read. The same command continues after a kill.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.regroup import check_names, parse_groups
from noctile.pipeline.untrusted import SETTINGS_BYTES, read_text
from noctile.workflows.commands.merge_copy import check_space, size_of
from noctile.workflows.commands.merge_reviews import TakenReviews, take_reviews
from noctile.workflows.commands.merge_source import Source
from noctile.workflows.commands.regroup_slide import (
    GroupsFile,
    RegroupJob,
    is_current,
    regroup_slide,
    regrouping_of,
)
from noctile.workflows.commands.table import held_for_tables
from noctile.workflows.engines.base import (
    ENGINE_LOST,
    OUTPUT_LOST,
    USAGE,
    Engine,
    Failure,
    Outcome,
)
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.resources import cores
from noctile.workflows.results.files import read_json, read_required_json, write_json
from noctile.workflows.results.guard import check_free
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.report import Report
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.staging import clean_up
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables
from noctile.workflows.run.record import machine, run_id

_ENDS_ALL = {OUTPUT_LOST, ENGINE_LOST, USAGE}
"""Reason codes of failures that do not belong to one slide."""


@dataclass(slots=True)
class RegroupResult:
    """Result of ``noctile regroup``.

    Attributes:
        made: number of results that were made.
        stood: number of results that the folder had already.
        damaged: fault of each slide that has no new result, by id.
        reviews: lines about reviews that did not come along.
        counts: number of slides in the tables by status.
    """

    made: int = 0
    stood: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    reviews: TakenReviews = field(default_factory=TakenReviews)
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if every finished slide has a new result, and all reviews were read; else 1."""
        return 1 if self.damaged or self.reviews.damaged else 0


def regroup_results(
    folder: Path, groups: Path, out: Path, workers: int | None, observe: Callable[[str], None]
) -> RegroupResult:
    """Make results with other classes from a folder of results.

    Args:
        folder: folder of results, which is only read.
        groups: groups file.
        out: folder for the new results: a new or empty one, or one that the same command has begun.
        workers: number of processes; None for one per core.
        observe: called with a line for each slide that is done.

    Raises:
        UsageError: if the groups do not fit the classes, the folder holds no results, ``out`` holds
            other results or other groups, or the disk is too small.
        StoreError: if the file system refuses.
    """
    file = read_groups(groups)
    source = Source(folder)
    classes = _new_classes(source, file)
    results = ResultsFolder(out)
    if out.resolve().is_relative_to(source.results.path):
        raise UsageError(f"--out {out} lies in {folder}, which is only read; choose another --out")
    try:
        check_free(results)
        results.slides.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    with held_for_tables(out) as (results, ledger):
        work = _Regroup(source, file, results, ledger, observe)
        work.check_same()
        work.check_space()
        work.begin(classes)
        try:
            work.take_others()
            work.make(workers)
        finally:
            work.end(classes)
    return work.result


def read_groups(path: Path) -> GroupsFile:
    """Read a groups file.

    Raises:
        UsageError: if it cannot be read or used.
    """
    try:
        text = read_text(path, SETTINGS_BYTES)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"groups file {path} cannot be read: {what}") from error
    return GroupsFile(text, parse_groups(text, str(path)))


def _new_classes(source: Source, file: GroupsFile) -> list[str]:
    """Names of the new classes of all slides; groups that do not fit are found before any work.

    Raises:
        UsageError: if the groups do not fit the classes of the slides.
    """
    kinds: dict[tuple[Any, ...], str] = {}
    for slide_id in source.done:
        summary = source.summary(slide_id)
        about = summary.get("model_sha256"), (summary.get("regrouped") or {}).get("groups_key")
        kinds.setdefault((*about, *summary.get("class_area_mm2", ())), slide_id)
    if not kinds:
        return []
    check_names(file.groups, dict.fromkeys(name for kind in kinds for name in kind[2:]))
    names: dict[str, None] = {}
    for slide_id in kinds.values():
        with suppress(StoreError):  # the slide is named when it is its turn
            store = MaskStore.open(source.results.slide(slide_id).mask)
            change = regrouping_of(store, file.groups)
            names |= dict.fromkeys(info.name for info in change.classes)
    return list(names)


class _Regroup:
    """New results in one folder, which is held.

    Args:
        source: folder that the slides come from.
        file: groups file.
        results: folder of the new results.
        ledger: its ledger.
        observe: called with a line for each slide that is done.

    Attributes:
        result: counts and faults so far.
    """

    def __init__(
        self,
        source: Source,
        file: GroupsFile,
        results: ResultsFolder,
        ledger: Ledger,
        observe: Callable[[str], None],
    ) -> None:
        self.result = RegroupResult()
        self._source, self._file, self._observe = source, file, observe
        self._results, self._ledger = results, ledger
        self._standing = Standing(results, ledger.state)
        self._start = datetime.now(UTC)
        self._run = run_id(self._start)

    def check_same(self) -> None:
        """Check that the folder holds nothing but results of the same slides and groups.

        Raises:
            UsageError: if it holds others.
        """
        state, standing = self._ledger.state, self._standing
        if not (state.start or state.slides or standing.summaries or standing.damaged):
            return
        records = (_record(path) for path in self._results.runs.glob("*.json"))
        known = {record.get("groups_key") for record in records}
        path = self._results.path
        if self._file.key not in known or known - {None, self._file.key}:
            other = "results of other groups" if known - {None} else "other results"
            raise UsageError(f"--out {path} holds {other}; choose another --out")
        here = {*standing.summaries, *state.slides}
        if strange := sorted(here - self._source.known):
            raise UsageError(
                f"--out {path} holds slides that {self._source.name} does not have, such as "
                f"{strange[0]}; choose another --out"
            )

    def check_space(self) -> None:
        """Check that the new results fit on the disk; they are about as large as the old ones.

        Raises:
            UsageError: if they do not.
        """
        slides, stands = self._source.results.slide, self._standing.summaries
        needed = sum(size_of(slides(i)) for i in self._source.done if i not in stands)
        check_space(self._results.path, needed)

    def begin(self, classes: Sequence[str]) -> None:
        """Record the start of the call.

        Raises:
            StoreError: if the file system refuses.
        """
        self._write_record(classes, None)
        ids = [*self._source.done, *self._source.damaged]
        self._ledger.started("regroup", sorted(ids), self._file.key, self._run)

    def take_others(self) -> None:
        """Take the rows of all slides of the source that have no result, all cells, and reviews.

        Raises:
            StoreError: if the file system refuses.
        """
        runs = self._source.copy_records(self._results)
        for slide_id in sorted({*self._source.done, *self._source.damaged}):
            self._note(slide_id, self._run)
        for slide_id in sorted(self._source.others):
            slide = self._source.slide(slide_id)
            if slide.submitted:
                self._note(slide_id, slide.named)
            ours = self._ledger.state.slide(slide_id)
            if not (ours.failure or ours.left_out):
                self._ledger.copied(*self._source.not_finished(slide_id, slide_id, runs))
            report = self._results.failure_report(slide_id)
            self._source.copy_report(slide_id, report)
        ids = {slide_id: slide_id for slide_id in self._source.known}
        target = Reviews(self._results)
        self.result.reviews = take_reviews(self._source, target, ids, self._reviewed_result)

    def _reviewed_result(self, slide_id: str) -> str:
        """Key of the finished slide, which is never that of its new result."""
        return str(self._source.summary(slide_id).get("key") or "unknown")

    def _note(self, slide_id: str, run: str) -> None:
        """Record path and cells of a slide."""
        last = self._source.slide(slide_id).submitted
        path = last.path if last else str(self._source.summary(slide_id).get("path") or "")
        times = (last.size, last.mtime_ns) if last else (-1, -1)
        self._ledger.submitted(slide_id, path, times, dict(last.cells) if last else {}, run)

    def make(self, workers: int | None) -> None:
        """Make the new result of every finished slide.

        Raises:
            StoreError: if the file system refuses (UsageError: if the groups do not fit a slide).
        """
        for slide_id, why in self._source.damaged.items():
            self._add_damaged(slide_id, Failure(StoreError.reason, why), 0.0)
        done = self._source.done
        n = max(1, min(workers or cores(), len(done)))
        threads = max(1, (workers or cores()) // n)
        jobs = [self._job(slide_id, threads) for slide_id in sorted(done)]
        todo = [job for job in jobs if not self._stands(job)]
        queue = iter(todo)
        with closing(_engine(min(n, len(todo)))) as engine:
            for outcome in engine.run(regroup_slide, lambda: next(queue, None)):
                self._take(outcome)

    def _job(self, slide_id: str, threads: int) -> RegroupJob:
        results, source = self._results, self._source
        folders = source.results.slide(slide_id), results.staged(slide_id), results.slide(slide_id)
        run = source.run_of(slide_id)
        return RegroupJob(slide_id, *folders, self._file, run, threads)

    def _stands(self, job: RegroupJob) -> bool:
        """Tell if the new result of a slide is there; record it if the last call was killed."""
        if not is_current(job):
            return False
        summary = read_required_json(job.final.summary)
        if not self._ledger.state.is_done(job.key, str(summary.get("key"))):
            self._finish(job.key, summary, 0.0)
        self.result.stood += 1
        return True

    def _take(self, outcome: Outcome) -> None:
        """Record the end of one slide."""
        slide_id, failure = outcome.key, outcome.failure
        if failure and failure.reason in _ENDS_ALL:
            raise (UsageError if failure.reason == USAGE else StoreError)(failure.message)
        if outcome.value:
            failure = Failure(StoreError.reason, f"its result is damaged: {outcome.value}")
        if failure:
            self._add_damaged(slide_id, failure, outcome.seconds)
            return
        summary = read_required_json(self._results.slide(slide_id).summary)
        self._finish(slide_id, summary, outcome.seconds)
        self.result.made += 1
        self._observe(f"{slide_id} has its new classes")

    def _finish(self, slide_id: str, summary: Mapping[str, Any], seconds: float) -> None:
        try:
            clean_up(self._results, slide_id)
        except OSError as error:
            path = self._results.slide(slide_id).path
            raise StoreError(f"{path} cannot be cleaned up: {error}") from error
        self._ledger.finished(slide_id, str(summary.get("key")), seconds)
        self._standing.done(slide_id, summary)

    def _add_damaged(self, slide_id: str, failure: Failure, seconds: float) -> None:
        self.result.damaged[slide_id] = failure.message
        self._ledger.failed("regroup", slide_id, "", failure, seconds)

    def end(self, classes: Sequence[str]) -> None:
        """Write the record of the call and the tables.

        Raises:
            StoreError: if the file system refuses.
        """
        with suppress(OSError):  # a slide of an interrupted call is in it
            self._results.staging.rmdir()
        rows = self._standing.rows()
        self.result.counts = Counter(row.status for row in rows)
        self._write_record(classes, self.result.counts)
        Tables(self._results, self._standing).write()
        Report(self._results).write()

    def _write_record(self, classes: Iterable[str], counts: Mapping[str, int] | None) -> None:
        source = self._source
        first = source.summary(next(iter(sorted(source.done)), ""))
        record = {
            "run": self._run,
            "command": "regroup",
            "start": self._start.isoformat(timespec="seconds"),
            "end": counts and datetime.now(UTC).isoformat(timespec="seconds"),
            "stopped": None,
            "slides": {name: (counts or {}).get(name, 0) for name in ("done", "failed", "skipped")},
            "failed": sorted(self.result.damaged),
            "source": str(source.results.path),
            "settings": self._file.groups.model_dump(mode="json"),
            "groups_key": self._file.key,
            "groups": self._file.text,
            "model": {"name": first.get("model"), "sha256": first.get("model_sha256")},
            "classes": list(classes),
            "machine": machine(),
            "versions": versions(),
        }
        write_json(self._results.run_record(self._run), record)


def _engine(workers: int) -> Engine:
    if workers <= 1:
        return SerialEngine()
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load

    return DaskEngine(
        workers, env={"OMP_NUM_THREADS": "1"}, preload=("noctile.workflows.commands.regroup_slide",)
    )


def _record(path: Path) -> Mapping[str, Any]:
    """Read the record of a call; empty if it is damaged."""
    with suppress(StoreError):
        return read_json(path) or {}
    return {}
