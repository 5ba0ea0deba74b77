"""READ THIS FIRST: the night's run. Slides in, masks and tables out, on two screens.

    for each slide      prepare:  open, find tissue, plan tiles          (jobs.prepare_slide)
    for each block      segment:  read, predict, join, write its shard   (jobs.segment_block_job)
    for each slide      finish:   pyramid, figures, preview, summary     (jobs.finish_slide)

`Schedule` says what may run next, an `Engine` runs it somewhere, the `Ledger` remembers what came of it. The answer
does not depend on the engine, on the number of workers or on the order of anything.
"""

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.cohort import SlideRow, cohort_table, write_csv
from pipeline.errors import UsageError
from pipeline.models.load import find_model, gpus_of, read_card, read_config, resolve_device, verify_weights
from pipeline.slides.find import SlideEntry
from workflows.config import RunSettings, cores
from workflows.engines.base import Engine, Failure, Outcome
from workflows.engines.serial import SerialEngine
from workflows.folders import read_json, write_atomic, write_json
from workflows.jobs import Prepared, RunContext, StepJob, versions
from workflows.ledger import Ledger
from workflows.schedule import Schedule, Step


@dataclass(slots=True)
class Progress:
    """How far the night is; the same object all along, for whoever shows it.

    Attributes:
        slides: submitted.
        done: slides that are complete, including those of earlier runs.
        failures: slide_id -> why.
        predictions: tiles predicted in this run.
        planned: tiles of all slides that have been planned so far in this run.
        rows: slide_id -> row of the table, for every slide that has ended.
    """

    slides: int
    done: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    predictions: int = 0
    planned: int = 0
    rows: dict[str, SlideRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NightResult:
    """What a run leaves behind: a row for every slide, and whether it was stopped before its end."""

    rows: list[SlideRow]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some slides failed or were skipped, 2 nothing was done."""
        done = sum(row.status == "done" for row in self.rows)
        return 0 if done == len(self.rows) else 1 if done else 2


_JOBS_PER_GPU = 2
"""While one block's pixels are read, or its shard is written, the GPU has another's to look at."""

Observer = Callable[[Progress, str], None]
"""Called after each outcome with the progress and a line worth saying ("" if there is none)."""


def run_night(entries: Sequence[SlideEntry], settings: RunSettings, out: Path, observe: Observer) -> NightResult:
    """Segment slides into ``out``; continue whatever an earlier run of the same command left there.

    Raises:
        UsageError: if nothing can be done for any slide: no such model, no such device, ``out`` cannot be written.
    """
    start = datetime.now(UTC)
    context = _context(settings, out)
    with closing(Ledger(out / "ledger.jsonl")) as ledger:
        engine, run = _engine(settings, context)
        night = _Night({entry.slide_id: entry for entry in entries}, run, ledger, observe)
        interrupted = False
        try:
            night.go(engine)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            engine.close()
            rows = night.rows("interrupted" if interrupted else "lost")
            _write_tables(rows, run, start)
    return NightResult(rows, interrupted)


class _Night:
    """The loop, and what it knows of each slide."""

    def __init__(self, entries: dict[str, SlideEntry], run: RunContext, ledger: Ledger, observe: Observer) -> None:
        self._entries, self._run, self._ledger, self._observe = entries, run, ledger, observe
        self._progress = Progress(len(entries))
        self._keys: dict[str, str] = {}  # content keys of slides that are prepared and not done
        self._steps: dict[str, Step] = {}  # under way
        self._schedule = Schedule(entries)

    def go(self, engine: Engine) -> None:
        """Run every slide to its end."""
        for outcome in engine.run(self._next_job):
            self._take(self._steps.pop(outcome.key), outcome)

    def _next_job(self) -> StepJob | None:
        step = self._schedule.next_step()
        if step is None:
            return None
        self._steps[step.key] = step
        return StepJob(step, self._entries[step.slide_id], self._run)

    def _take(self, step: Step, outcome: Outcome) -> None:
        say = ""
        if outcome.failure:
            say = self._failed(step, outcome.failure, outcome.seconds)
        elif step.kind == "prepare":
            say = self._prepared(step.slide_id, outcome.value, outcome.seconds)
        elif step.block is not None:
            self._ledger.segmented(step.slide_id, self._keys[step.slide_id], outcome.seconds, step.block)
            self._schedule.segmented(step.slide_id)
            self._progress.predictions += outcome.value
        else:
            self._ledger.finished(step.slide_id, self._keys[step.slide_id], outcome.seconds)
            self._schedule.finished(step.slide_id)
            say = self._done(step.slide_id)
        self._observe(self._progress, say)

    def _prepared(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        self._keys[slide_id] = prepared.key
        if prepared.finished:
            self._schedule.prepared(slide_id, (), finished=True)
            return self._done(slide_id, " (already)")
        self._ledger.prepared(slide_id, prepared.key, seconds, fresh=prepared.fresh)
        done = self._ledger.blocks_done(prepared.key)
        todo = {b: n for b, n in zip(prepared.blocks, prepared.tiles_of, strict=True) if b not in done}
        self._progress.planned += sum(todo.values())
        self._schedule.prepared(slide_id, todo)
        stand = len(prepared.blocks) - len(todo)
        kept = f", {stand} blocks stand from an earlier run" if stand else ""
        return f"{slide_id}: {sum(todo.values())} tiles in {len(todo)} blocks{kept}"

    def _done(self, slide_id: str, how: str = "") -> str:
        summary = read_json(self._run.folder(slide_id).summary) or {}
        key = self._keys.pop(slide_id)
        self._progress.rows[slide_id] = self._row(slide_id, "done", "", summary, round(self._ledger.seconds(key), 1))
        self._progress.done += 1
        return f"{slide_id}: done{how}, tumor {summary['tumor_area_mm2']:.3f} of {summary['tissue_area_mm2']:.3f} mm2"

    def _failed(self, step: Step, failure: Failure, seconds: float) -> str:
        slide_id = step.slide_id
        self._ledger.failed(step.kind, slide_id, failure, seconds)
        if not self._schedule.failed(slide_id):
            return ""
        self._progress.failures[slide_id] = failure
        self._progress.rows[slide_id] = self._row(slide_id, "failed", f"{failure.reason}: {failure.message}", {}, None)
        return f"{slide_id}: failed, {failure.reason}: {failure.message}"

    def _row(self, slide_id: str, status: Any, reason: str, summary: dict[str, Any], seconds: float | None) -> SlideRow:
        e = self._entries[slide_id]
        return SlideRow(slide_id, e.path, e.patient_id, e.group, status, reason, summary, seconds, e.extra)

    def rows(self, why_not: str) -> list[SlideRow]:
        """A row for every slide that was submitted; those that have not ended are skipped, with the reason."""
        ended = self._progress.rows
        return [ended.get(i) or self._row(i, "skipped", why_not, {}, None) for i in sorted(self._entries)]


def _context(settings: RunSettings, out: Path) -> RunContext:
    model = find_model(settings.model)
    card = read_card(model)
    verify_weights(model, card)
    settings.tiling(card)
    device = resolve_device(settings.device)
    try:
        (out / "slides").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    processes = 1 if settings.engine == "serial" else settings.processes(len(gpus_of(device)))
    threads = settings.torch_threads(processes)
    key = settings.pixels_key(card, read_config(model), device)
    return RunContext(str(out.resolve()), str(model.resolve()), card, settings, device, threads, key)


def _engine(settings: RunSettings, run: RunContext) -> tuple[Engine, RunContext]:
    """Where the jobs will run, and the run as they see it there."""
    if settings.engine == "serial":
        return SerialEngine(), run
    from workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load, and the serial engine needs none of it

    gpus = gpus_of(run.device)
    engine = DaskEngine(
        settings.processes(len(gpus)),
        gpus=gpus,
        jobs_each=_JOBS_PER_GPU if gpus else 1,
        env={"OMP_NUM_THREADS": str(run.threads), "OPENBLAS_NUM_THREADS": "1"},
        preload=("workflows.jobs", "pipeline.models.unet"),
        scheduler=settings.scheduler,
    )
    return engine, replace(run, device="cuda") if gpus and not settings.scheduler else run


def _write_tables(rows: list[SlideRow], run: RunContext, start: datetime) -> None:
    out = Path(run.out)
    table = cohort_table(rows, run.card.classes)
    write_atomic(out / "slides.parquet", lambda p: pq.write_table(table, p, compression="zstd"))
    write_atomic(out / "slides.csv", lambda p: write_csv(table, p))
    write_json(
        out / "run.json",
        {
            "start": start.isoformat(timespec="seconds"),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
            "slides": {status: sum(r.status == status for r in rows) for status in ("done", "failed", "skipped")},
            "settings": run.settings.model_dump(mode="json"),
            "model": {"name": run.card.name, "sha256": run.card.sha256, "folder": run.model},
            "machine": {"host": platform.node(), "system": platform.platform(), "cores": cores(), "pid": os.getpid()},
            "device": run.device,
            "versions": versions(),
        },
    )
