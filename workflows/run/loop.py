"""Loop of a run: outcomes go to the ledger, to the schedule and to the progress."""

from collections import defaultdict
from collections.abc import Callable
from math import inf

from noctile.pipeline.cohort import SlideRow, Status
from noctile.pipeline.errors import ChangedWhileReadError, StoreError, UsageError
from noctile.pipeline.slides.fingerprint import file_state
from noctile.workflows.engines.base import TIMEOUT, USAGE, Engine, EngineLostError, Failure, Outcome
from noctile.workflows.jobs.entry import do
from noctile.workflows.jobs.messages import Prepared, RunContext, StepJob
from noctile.workflows.jobs.steps import Step
from noctile.workflows.results.failures import write_failure_report
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.report import Report
from noctile.workflows.results.staging import clean_up
from noctile.workflows.results.standing import Standing, manifest_fields
from noctile.workflows.results.tables import Tables
from noctile.workflows.run.exports import Exports
from noctile.workflows.run.fault_origin import FaultOrigin, blamed, stays_failed
from noctile.workflows.run.preflight import Preflight
from noctile.workflows.run.progress import Detail, Observer, Progress
from noctile.workflows.run.retries import Retries
from noctile.workflows.run.schedule import Schedule
from noctile.workflows.run.stop import Stop
from noctile.workflows.run.submission import Submission, cells, is_made_by, note
from noctile.workflows.settings import short_hash

AfterPlanning = Callable[[str, Prepared, set[tuple[int, int]]], str]
"""Function called with a slide id, its plan and its written blocks; returns a message."""


class RunLoop:
    """Loop that runs every slide to its end.

    Args:
        submission: slides of the call.
        context: run that all jobs belong to.
        ledger: record of every outcome.
        standing: slides that stand in the folder of results.
        stop: stop signal of the run.
        fault_origin: tells failures of a slide from failures of the machine.
        progress: progress to update.
        observe: called after each outcome.

    Attributes:
        tables: writer of the folder's tables.
        report: writer of the folder's report.
        exports: slides that wait for their exported files.
    """

    def __init__(
        self,
        submission: Submission,
        context: RunContext,
        ledger: Ledger,
        standing: Standing,
        stop: Stop,
        fault_origin: FaultOrigin,
        progress: Progress,
        observe: Observer,
    ) -> None:
        self._submission = submission
        self._entries = {entry.slide_id: entry for entry in submission.entries}
        self._context, self._results, self._ledger = context, context.results, ledger
        self._standing, self.tables = standing, Tables(context.results, standing)
        self.report = Report(context.results)
        self.exports = Exports(context, standing)
        self._stop, self._fault_origin = stop, fault_origin
        self._progress, self._observe = progress, observe
        self._after_planning: AfterPlanning | None = None
        self._preflight, self._schedule = Preflight(()), Schedule(())
        self._retries, self._begun_again = Retries(), set[str]()
        self._keys: dict[str, str] = {}  # content keys of slides that are prepared and not done
        self._steps: dict[str, Step] = {}  # steps under way, by key
        self._spent_s: dict[str, float] = defaultdict(float)  # by the jobs of slides under way

    def run(self, engine: Engine, after_planning: AfterPlanning | None = None) -> None:
        """Run every slide to its end, or until the run is stopped.

        Args:
            engine: engine that does the steps.
            after_planning: called after a slide is planned, which ends the work on it (the
                policy of ``noctile plan``); None: every slide is predicted.
        """
        self._after_planning = after_planning
        try:
            if not after_planning:
                self._begin()
            self._work(engine)
        except (StoreError, OSError, EngineLostError) as error:
            self._stop.ask(str(error), at_once=True)
        except KeyboardInterrupt:
            self._stop.ask("interrupted", at_once=True)

    def _begin(self) -> None:
        """Record the call and its slides, before any work on them."""
        run, ledger = self._context.run, self._ledger
        ledger.started("run", self._entries, self._context.pixels_key, run)
        note(self._submission, ledger, run)
        self.tables.write()

    def _work(self, engine: Engine) -> None:
        to_do = self._to_do()
        new = [] if self._after_planning else [i for i in to_do if not self._is_planned(i)]
        self._preflight = Preflight(new)
        known = [slide_id for slide_id in to_do if slide_id not in set(new)]
        self._schedule = Schedule(known, in_flight=max(8, 2 * engine.slots))
        for outcome in engine.run(do, self._next_job, self._stop):
            self._take(self._steps.pop(outcome.key), outcome)

    def _is_planned(self, slide_id: str) -> bool:
        planned = self._results.planned_slide(slide_id)
        return self._ledger.state.is_planned(slide_id) or planned.path.exists()

    def _to_do(self) -> list[str]:
        """Return the slides to begin; one that failed before and has not changed keeps its row."""
        for slide_id in () if self._context.settings.retry_failed else self._entries:
            before = self._ledger.state.failure(slide_id)
            if not before or not stays_failed(before.reason):
                continue
            if before.key == self._failure_key(slide_id):
                self._end_failed(slide_id, Failure(before.reason, before.message))
        if failed := len(self._progress.failures):
            message = f"{failed} failed in an earlier run and stay so; --retry-failed tries again"
            self._observe(self._progress, message)
        for slide_id, failure in self._submission.refused.items():
            key = self._failure_key(slide_id)
            self._ledger.failed("prepare", slide_id, key, failure, 0.0)
            self._observe(self._progress, self._end_failed(slide_id, failure))
        return [slide_id for slide_id in self._entries if slide_id not in self._progress.failures]

    def _next_job(self) -> StepJob | None:
        for slide_id in self._preflight.give_up():
            self._schedule.add(slide_id)
        step = self._retries.next_step() or self._preflight.next_step()
        step = step or self.exports.next_step() or self._schedule.next_step()
        if step is None and not self._steps:
            step = self._retries.wait(self._stop)
        if step is None:
            return None
        self._steps[step.key] = step
        left_s = self._limit_s - self._spent_s[step.slide_id]
        stem, entry = self.exports.stem(step), self._entries[step.slide_id]
        return StepJob(step, entry, self._context, left_s, stem)

    @property
    def _limit_s(self) -> float:
        return self._context.settings.slide_timeout_s or inf

    def _take(self, step: Step, outcome: Outcome) -> None:
        message, slide_id = "", step.slide_id
        self._spent_s[slide_id] += outcome.seconds
        if outcome.failure and outcome.failure.passing and self._retries.again(step):
            self._observe(self._progress, f"tried again soon: {outcome.failure.message}")
            return
        if outcome.failure is None:
            self._retries.ended_well(step)
        if step.block is not None and outcome.failure is None:
            self._ledger.segmented(slide_id, self._keys[slide_id], outcome.seconds, step.block)
            self._progress.predictions += outcome.value
        if step.kind == "export":
            failed = (outcome.failure.message,) if outcome.failure else outcome.value
            message = self._exported(slide_id, failed)
        elif failure := outcome.failure or self._overdue(step):
            message = self._failed(step, failure, outcome.seconds)
        elif slide_id in self._preflight.under_way:
            message = self._planned_early(slide_id, outcome.value, outcome.seconds)
        elif step.kind == "prepare":
            message = self._prepared(slide_id, outcome.value, outcome.seconds)
        elif step.kind == "segment":
            self._schedule.segmented(slide_id)
        else:
            self._ledger.finished(slide_id, self._keys[slide_id], outcome.seconds)
            self._schedule.finished(slide_id)
            message = self._done(slide_id)
        self._observe(self._progress, message)
        if report := self._preflight.report():
            self._observe(self._progress, report)

    def _planned_early(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        """A slide was planned in the preflight; it waits for its turn now."""
        if not prepared.finished:
            self._record_prepared(slide_id, prepared, seconds, early=True)
        self._schedule.add(slide_id)
        notes = self._preflight.ready(slide_id, prepared)
        return Detail(f"{slide_id}: {', '.join(notes)}") if notes else ""

    def _prepared(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        self._keys[slide_id] = prepared.key
        self._record_prepared(slide_id, prepared, seconds)
        if self._after_planning:
            self._schedule.prepared(slide_id, (), finished=True)
            self._spent_s.pop(slide_id, None)
            message = self._after_planning(slide_id, prepared, self._written(slide_id, prepared))
            self._progress.done += 1
            return message
        if prepared.finished:
            self._schedule.prepared(slide_id, (), finished=True)
            return self._done(slide_id, " (already)")
        return self._begin_blocks(slide_id, prepared)

    def _begin_blocks(self, slide_id: str, prepared: Prepared) -> str:
        self._name_damaged(slide_id, prepared)
        written = self._written(slide_id, prepared)
        tiles_of = dict(zip(prepared.blocks, prepared.tiles_of, strict=True))
        to_do = {block: n for block, n in tiles_of.items() if block not in written}
        self._progress.planned += sum(to_do.values())
        largest_first = sorted(to_do, key=lambda block: (-to_do[block], block))
        self._schedule.prepared(slide_id, largest_first)
        n_written = len(prepared.blocks) - len(to_do)
        kept = f", {n_written} blocks stand from an earlier run" if n_written else ""
        return Detail(f"{slide_id}: {sum(to_do.values())} tiles in {len(to_do)} blocks{kept}")

    def _record_prepared(
        self, slide_id: str, prepared: Prepared, seconds: float, *, early: bool = False
    ) -> None:
        """Record that a slide is planned, or done, unless the ledger says so already.

        The ledger ends with another event if the run died too early, or if another setting was
        planned or begun since.
        """
        if not prepared.finished:
            self._ledger.planned(
                slide_id,
                prepared.key,
                seconds,
                fresh=prepared.fresh,
                early=early,
                fingerprint=prepared.fingerprint,
            )
        elif not self._ledger.state.is_done(slide_id, prepared.key):
            self._ledger.finished(slide_id, prepared.key, seconds)

    def _written(self, slide_id: str, prepared: Prepared) -> set[tuple[int, int]]:
        """Return the blocks that an earlier run has written."""
        return self._noted(slide_id, prepared) - prepared.block_faults.keys()

    def _noted(self, slide_id: str, prepared: Prepared) -> set[tuple[int, int]]:
        """Return the blocks that should be written, whether or not their files are whole."""
        if prepared.folder.block_stats_file.exists():
            return set(prepared.blocks)  # the file is written after the last block
        return self._ledger.state.blocks_done(slide_id, prepared.key)

    def _name_damaged(self, slide_id: str, prepared: Prepared) -> None:
        """Print a line for each thing that an earlier run wrote and that is made again."""
        if prepared.damaged:
            self._observe(self._progress, f"{slide_id}: made again: {prepared.damaged}")
        noted = self._noted(slide_id, prepared)
        for block in sorted(noted & prepared.block_faults.keys()):
            what = f"block {block[0]}, {block[1]} is segmented again"
            self._observe(self._progress, f"{slide_id}: {what}: {prepared.block_faults[block]}")

    def _done(self, slide_id: str, how: str = "") -> str:
        path = self._results.slide(slide_id).summary
        summary, key = read_required_json(path), self._keys.pop(slide_id)
        if summary["key"] != key:
            raise StoreError(
                f"{path} has changed while the run was using it; run the same command again"
            )
        clean_up(self._results, slide_id)
        self._spent_s.pop(slide_id, None)
        self._standing.done(slide_id, summary)
        self._progress.rows[slide_id] = self._standing.row(slide_id)
        self.tables.write_if_due()
        self.report.write_if_due()
        self._progress.done += 1
        self.exports.add(slide_id)
        tumor, tissue = (summary.get(f"{name}_area_mm2") or 0.0 for name in ("tumor", "tissue"))
        return f"{slide_id}: done{how}, tumor {tumor:.3f} of {tissue:.3f} mm2"

    def _exported(self, slide_id: str, faults: tuple[str, ...]) -> str:
        """A slide was exported, or could not be; either way it is done."""
        self._spent_s.pop(slide_id, None)
        message = self.exports.ended(slide_id, faults)
        return message if faults else Detail(message)

    def _overdue(self, step: Step) -> Failure | None:
        """Failure of a slide whose jobs have taken too long; None for a slide that is done."""
        spent_s = self._spent_s[step.slide_id]
        if spent_s <= self._limit_s or step.kind == "finish":
            return None
        return Failure(
            TIMEOUT,
            f"its steps took {spent_s:.0f} s together, more than --slide-timeout "
            f"({self._limit_s:.0f} s)",
        )

    def _failed(self, step: Step, failure: Failure, seconds: float) -> str:
        """Fail a slide. If the machine is the cause, stop the run: the next run does the slide.

        Raises:
            UsageError: if no slide can be done, because the model is broken.
        """
        slide_id = step.slide_id
        if failure.reason == USAGE:
            raise UsageError(failure.message)
        path, troubled = self._entries[slide_id].path, self._retries.troubled_beside(step)
        if why := self._fault_origin.not_the_slide(failure, path, troubled):
            self._stop.ask(why, at_once=True)
            return ""
        if message := self._begins_again(slide_id, failure):
            return message
        failure = blamed(failure)
        first = self._preflight.failed(slide_id) or self._schedule.failed(slide_id)
        if first and not self._context.planning:
            # report first: after a kill in between, the slide is tried again
            block = f" of block {step.block[0]}, {step.block[1]}" if step.block else ""
            report = self._results.failure_report(slide_id)
            write_failure_report(report, slide_id, f"{step.kind}{block}", failure)
        key = self._failure_key(slide_id)
        self._ledger.failed(step.kind, slide_id, key, failure, seconds, first=first)
        return self._end_failed(slide_id, failure) if first else ""

    def _begins_again(self, slide_id: str, failure: Failure) -> str:
        """Begin a slide again, once, if its file was changed while it was read; else return ""."""
        if self._schedule.begins_again(slide_id):
            self._schedule.failed(slide_id)
            return Detail(f"{slide_id}: a step on its old content ended")
        changed = failure.reason == ChangedWhileReadError.reason
        if not changed or slide_id in self._begun_again:
            return ""
        self._begun_again.add(slide_id)
        self._schedule.begin_again(slide_id)
        self._spent_s.pop(slide_id, None)
        return (
            f"{slide_id}: its file was changed while it was read; it is done again from its start"
        )

    def _end_failed(self, slide_id: str, failure: Failure) -> str:
        self._progress.failures[slide_id] = failure
        code, message = failure.reason, failure.message
        self._progress.rows[slide_id] = self._row(slide_id, "failed", code, message)
        return f"{slide_id}: failed, {code}: {message}"

    def _failure_key(self, slide_id: str) -> str:
        """Hash that changes when a failed slide is worth another try.

        It is made without reading the slide, because reading may be what failed.
        """
        entry = self._entries[slide_id]
        files = [*file_state(entry.path), *file_state(entry.path.with_suffix(""))]
        given = [file_state(path) for path in (entry.roi, entry.tissue_mask) if path]
        return short_hash([*files, *given, entry.mpp, self._context.pixels_key])

    def rows(self) -> list[SlideRow]:
        """Return one row for each slide of this call, sorted by id.

        Slides that have not ended are skipped, with the reason.
        """
        code, message = ("stopped", self._stop.reason) if self._stop.reason else ("lost", "")
        rows = (
            self._progress.rows.get(slide_id)
            or self._done_before(slide_id)
            or self._row(slide_id, "skipped", code, message)
            for slide_id in self._entries
        )
        return sorted(rows, key=lambda row: row.slide_id)

    def _done_before(self, slide_id: str) -> SlideRow | None:
        """Row of a slide that an earlier run has done, if this one was stopped before its turn."""
        summary, entry = self._standing.summaries.get(slide_id), self._entries[slide_id]
        if self._stop.reason is None or summary is None:
            return None
        made = is_made_by(summary, self._context.pixels_key, entry)
        return self._standing.row(slide_id) if made else None

    def _row(self, slide_id: str, status: Status, reason: str, message: str) -> SlideRow:
        entry = self._entries[slide_id]
        about, run = manifest_fields(cells(entry)), self._context.run
        return SlideRow(slide_id, entry.path, status, reason, message, run, **about)
