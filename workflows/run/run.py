"""READ THIS FIRST: the night's run. Slides in, masks and tables out, on two screens.

    for each slide      prepare:  open, find tissue, plan tiles          (jobs.prepare), all
        in the first minutes
    for each block      segment:  read, predict, join, write its shard   (jobs.segment_block)
    for each slide      finish:   pyramid, figures, preview, summary     (jobs.finish)

`Schedule` says what may run next, an `Engine` runs it somewhere, the `Ledger` remembers what came
of it. The answer does not depend on the engine, on the number of workers or on the order of
anything.
"""

import os
import platform
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.errors import NoctileError, StoreError, UsageError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.device import gpus_of, resolve_device
from noctile.pipeline.models.folder import find_model, read_card, read_config, verify_weights
from noctile.pipeline.models.load import resolve_backend
from noctile.pipeline.plan import plan_tiles
from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.tissue import TissueMask
from noctile.workflows.engines.base import TIMEOUT, Engine, EngineLostError, Failure, Outcome
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.entry import do, load_ahead, ready_predictor
from noctile.workflows.jobs.messages import Prepared, RunContext, StepJob
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.processes.gpu_usage import GpuUsage
from noctile.workflows.processes.preload import is_served, worker_env, worker_modules
from noctile.workflows.quantities import next_moment
from noctile.workflows.results.layout import (
    STAGING,
    heal,
    json_text,
    read_json,
    sweep,
    write_together,
)
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.ledger import Command, Ledger
from noctile.workflows.run.fault_origin import FaultOrigin, check_free, seen
from noctile.workflows.run.schedule import Schedule, Step
from noctile.workflows.run.stop import GRACE_S, Stop, stopped_by_signals
from noctile.workflows.settings import WORKER_BYTES, RunSettings, cores, short_hash


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
class Pace:
    """How fast a run was.

    Attributes:
        predictions: tiles that passed through the model.
        seconds: from the first job to the last.
        gpu_busy: mean share of time that the GPUs computed, 0..1; None on the CPU, or where nobody
            could look.
    """

    predictions: int
    seconds: float
    gpu_busy: float | None

    def __str__(self) -> str:
        """For people."""
        busy = f", GPU busy {self.gpu_busy:.0%}" if self.gpu_busy is not None else ""
        return f"{self.predictions} tiles in {self.seconds:.1f} s ({self.predictions / self.seconds:.3g} tiles/s){busy}"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves behind.

    Attributes:
        rows: one for every slide.
        stopped: why the run ended before all slides had; None if it did not.
        pace: how fast it was.
    """

    rows: list[SlideRow]
    stopped: str | None
    pace: Pace

    def count(self, status: str) -> int:
        """Slides that are done, failed or skipped."""
        return sum(row.status == status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some slides failed, 2 nothing was done, 3 stopped: the same command
        continues.
        """
        done = self.count("done")
        return 3 if self.stopped else 0 if done == len(self.rows) else 1 if done else 2


FIRST_LOOK_S = 300.0
"""How long a run looks at slides before its first block (s). What is planned is not planned again:
it loses nothing by it but what GPUs could have done then."""

Observer = Callable[[Progress, str], None]
"""Called after each outcome with the progress and a line worth saying ("" if there is none)."""


def run_slides(
    entries: Sequence[SlideEntry], settings: RunSettings, out: Path, observe: Observer
) -> RunResult:
    """Segment slides into ``out``; continue whatever an earlier run of the same command left there.

    Raises:
        UsageError: if nothing can be done for any slide: no such model, no such device, ``out``
            cannot be written or belongs to a run that is alive.
        NoctileError: if a slide has no outcome although the run ended: a defect of Noctile.
    """
    start = datetime.now(UTC)
    context = run_context(settings, out)
    progress = Progress(len(entries))
    until = next_moment(settings.until, start.astimezone()) if settings.until else None
    stop = Stop(
        out,
        settings.min_free_disk_bytes,
        until,
        lambda why: observe(progress, _STOPPING.format(why)),
    )
    watch = GpuUsage(gpus_of(context.device))
    with (
        stopped_by_signals(stop),
        closing(hold(out, stop)) as lease,
        closing(Ledger(out / "ledger.jsonl")) as ledger,
        ExitStack() as stack,
    ):
        if lease.taken_from:
            observe(progress, f"continuing what {lease.taken_from} left when it died")
        engine, run = start_engine(settings, with_servers(context, stack))
        places = FaultOrigin(entries, out, lease)
        night = Night(
            {entry.slide_id: entry for entry in entries},
            run,
            ledger,
            observe,
            stop,
            places,
            progress,
        )
        begun = time.perf_counter()
        try:
            with watch:
                night.go(engine)
        finally:
            engine.close()
        pace = Pace(progress.predictions, time.perf_counter() - begun, watch.busy)
        rows = night.rows()
        if unsaved := places.why_not_ours() or _write_tables(rows, run, start):
            stop.ask(unsaved, at_once=True)
        with suppress(OSError):  # a slide that failed or was stopped is still in it
            (out / STAGING).rmdir()
    if stop.reason is None and (lost := [row.slide_id for row in rows if row.status == "skipped"]):
        raise NoctileError(
            f"{len(lost)} slides have no outcome, {lost[0]} among them: a defect of Noctile, report it"
        )
    return RunResult(rows, stop.reason, pace)


_STOPPING = (
    f"stopping: {{}}; what is under way may end within {GRACE_S:.0f} s, nothing new is started"
)


def hold(out: Path, stop: Stop) -> Lease:
    """Take the output folder; remove what killed writers left there, and finish their promotions.

    Raises:
        UsageError: if another run holds it, or it cannot be written.
    """
    try:
        lease = Lease(out, lambda why: stop.ask(why, at_once=True))
        sweep(out)
        heal(out)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    except StoreError as error:
        raise UsageError(f"--out {out} cannot be written: {error}") from error
    return lease


class FirstLook:
    """The first minutes of a run: slides that are new are planned before any block is begun.

    So what is wrong with an archive is said while somebody is there to read it. A slide that hangs
    holds up no other.

    Args:
        new: the slides.

    Attributes:
        unseen: slides whose look has not begun.
        under_way: those that are looked at now.
    """

    def __init__(self, new: Sequence[str]) -> None:
        self.unseen, self.under_way = deque(new), set[str]()
        self._n, self._until = len(new), time.monotonic() + FIRST_LOOK_S
        self._said = not new
        self._firsts: dict[str, str] = {}  # the first slide of each content
        self._ready = self._failed = self._blank = self._twins = 0

    def next_step(self) -> Step | None:
        """What to look at now; None when all has been, or is."""
        if not self.unseen:
            return None
        slide_id = self.unseen.popleft()
        self.under_way.add(slide_id)
        return Step("prepare", slide_id)

    def late(self) -> list[str]:
        """Slides to which the time did not reach; once."""
        late = list(self.unseen) if time.monotonic() >= self._until else []
        if late:
            self.unseen.clear()
        return late

    def ready(self, slide_id: str, prepared: Prepared) -> list[str]:
        """A look ended well; what is worth saying of it."""
        self.under_way.remove(slide_id)
        first = self._firsts.setdefault(prepared.fingerprint, slide_id)
        blank, twin = not (prepared.blocks or prepared.finished), first != slide_id
        self._ready, self._blank, self._twins = (
            self._ready + 1,
            self._blank + blank,
            self._twins + twin,
        )
        return [*(["no tissue"] if blank else []), *([f"same content as {first}"] if twin else [])]

    def failed(self, slide_id: str) -> bool:
        """Whether the step of a slide that ended badly was a look."""
        looked = slide_id in self.under_way
        self.under_way.discard(slide_id)
        self._failed += looked
        return looked

    def words(self) -> str:
        """What was found, once, when all looks have ended; else ""."""
        if self._said or self.unseen or self.under_way:
            return ""
        self._said = True
        seen = self._ready + self._failed
        later = "; the others are looked at in their turn" if seen < self._n else ""
        found = f"{self._ready} ready, {self._failed} failed; {self._blank} without tissue, {self._twins} duplicates"
        return f"looked at {seen} of {self._n} slides: {found}{later}"


class Night:
    """The loop, and what it knows of each slide."""

    command: Command = "run"

    def __init__(
        self,
        entries: dict[str, SlideEntry],
        run: RunContext,
        ledger: Ledger,
        observe: Observer,
        stop: Stop,
        places: FaultOrigin,
        progress: Progress,
    ) -> None:
        self._entries, self._run, self._ledger, self._observe = entries, run, ledger, observe
        self._stop, self._places, self._progress = stop, places, progress
        self._keys: dict[str, str] = {}  # content keys of slides that are prepared and not done
        self._steps: dict[str, Step] = {}  # under way
        self._spent: dict[str, float] = defaultdict(
            float
        )  # time of the jobs of slides that are under way (s)

    def go(self, engine: Engine) -> None:
        """Run every slide to its end, or until the run is stopped."""
        to_do = self._to_do()
        self._look = FirstLook(self._new(to_do))
        unseen = set(self._look.unseen)
        known = (slide_id for slide_id in to_do if slide_id not in unseen)
        self._schedule = Schedule(known, in_flight=max(8, 2 * engine.slots))
        try:
            self._ledger.started(self.command, self._entries, self._run.pixels_key)
            for outcome in engine.run(do, self._next_job, self._stop):
                self._take(self._steps.pop(outcome.key), outcome)
        except (StoreError, OSError, EngineLostError) as error:
            self._stop.ask(str(error), at_once=True)
        except KeyboardInterrupt:
            self._stop.ask("interrupted", at_once=True)

    def _to_do(self) -> list[str]:
        """Slides to begin. Those that failed before, and have not changed since, keep their row."""
        for slide_id in () if self._run.settings.retry_failed else self._entries:
            before = self._ledger.failure(slide_id)
            if before and before.key == self._failure_key(slide_id):
                self._end_failed(slide_id, Failure(before.reason, before.message))
        if failed := len(self._progress.failures):
            self._observe(
                self._progress,
                f"{failed} failed in an earlier run and stay so; --retry-failed tries again",
            )
        return [slide_id for slide_id in self._entries if slide_id not in self._progress.failures]

    def _new(self, to_do: Iterable[str]) -> list[str]:
        """Slides that nobody has looked at yet, in this run or before."""
        return [slide_id for slide_id in to_do if not self._ledger.has_planned(slide_id)]

    def _next_job(self) -> StepJob | None:
        for slide_id in self._look.late():
            self._schedule.add(slide_id)
        step = self._look.next_step() or self._schedule.next_step()
        if step is None:
            return None
        self._steps[step.key] = step
        limit_s = self._run.settings.slide_timeout_s or inf
        return StepJob(
            step, self._entries[step.slide_id], self._run, limit_s - self._spent[step.slide_id]
        )

    def _take(self, step: Step, outcome: Outcome) -> None:
        say, slide_id = "", step.slide_id
        self._spent[slide_id] += outcome.seconds
        if step.block is not None and outcome.failure is None:
            self._ledger.segmented(slide_id, self._keys[slide_id], outcome.seconds, step.block)
            self._progress.predictions += outcome.value
        if failure := outcome.failure or self._late(step):
            say = self._failed(step, failure, outcome.seconds)
        elif slide_id in self._look.under_way:
            say = self._looked(slide_id, outcome.value, outcome.seconds)
        elif step.kind == "prepare":
            say = self._prepared(slide_id, outcome.value, outcome.seconds)
        elif step.kind == "segment":
            self._schedule.segmented(slide_id)
        else:
            self._ledger.finished(slide_id, self._keys[slide_id], outcome.seconds)
            self._schedule.finished(slide_id)
            say = self._done(slide_id)
        self._observe(self._progress, say)
        if said := self._look.words():
            self._observe(self._progress, said)

    def _looked(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        """A slide was planned in the first minutes; its turn comes."""
        if not prepared.finished:
            self._ledger.looked(slide_id, prepared.key, seconds, fresh=prepared.fresh)
        self._schedule.add(slide_id)
        notes = self._look.ready(slide_id, prepared)
        return f"{slide_id}: {', '.join(notes)}" if notes else ""

    def _prepared(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        self._keys[slide_id] = prepared.key
        self._note(slide_id, prepared, seconds)
        if prepared.finished:
            self._schedule.prepared(slide_id, (), finished=True)
            return self._done(slide_id, " (already)")
        done = self._standing(slide_id, prepared)
        todo = {
            b: n for b, n in zip(prepared.blocks, prepared.tiles_of, strict=True) if b not in done
        }
        self._progress.planned += sum(todo.values())
        self._schedule.prepared(
            slide_id, sorted(todo, key=lambda b: (-todo[b], b))
        )  # so that the last ones are small
        stand = len(prepared.blocks) - len(todo)
        kept = f", {stand} blocks stand from an earlier run" if stand else ""
        return f"{slide_id}: {sum(todo.values())} tiles in {len(todo)} blocks{kept}"

    def _note(self, slide_id: str, prepared: Prepared, seconds: float) -> None:
        """Write to the ledger that a slide is prepared; or that it is done, if that is not its last
        word.

        Another word is last where the run died too soon, or another setting was planned or begun
        since.
        """
        if not prepared.finished:
            self._ledger.prepared(slide_id, prepared.key, seconds, fresh=prepared.fresh)
        elif not self._ledger.is_done(slide_id, prepared.key):
            self._ledger.finished(slide_id, prepared.key, seconds)

    def _standing(self, slide_id: str, prepared: Prepared) -> set[tuple[int, int]]:
        """Blocks that an earlier run has done."""
        folder = self._run.under_way(slide_id)
        if folder.facts.exists():  # written when all of them were
            return set(prepared.blocks)
        return {
            b
            for b in self._ledger.blocks_done(slide_id, prepared.key)
            if folder.block_stats(b).exists()
        }

    def _done(self, slide_id: str, how: str = "") -> str:
        folder = self._run.folder(slide_id)
        summary = read_json(folder.summary)
        key = self._keys.pop(slide_id)
        if summary is None or summary["key"] != key:
            raise StoreError(
                f"{folder.summary} has gone while the run was using it; run the same command again"
            )
        self._places.clean(folder)
        self._run.staging(slide_id).remove()
        self._spent.pop(slide_id, None)
        seconds = round(self._ledger.seconds(slide_id, key), 1)
        self._progress.rows[slide_id] = self._row(slide_id, "done", "", summary, seconds)
        self._progress.done += 1
        return f"{slide_id}: done{how}, tumor {summary['tumor_area_mm2']:.3f} of {summary['tissue_area_mm2']:.3f} mm2"

    def _late(self, step: Step) -> Failure | None:
        """Whether the jobs of a slide have taken too long together; a slide that is done has not."""
        limit_s, spent_s = self._run.settings.slide_timeout_s or inf, self._spent[step.slide_id]
        if spent_s <= limit_s or step.kind == "finish":
            return None
        return Failure(
            TIMEOUT,
            f"its steps took {spent_s:.0f} s together, more than --slide-timeout ({limit_s:.0f} s)",
        )

    def _failed(self, step: Step, failure: Failure, seconds: float) -> str:
        """A slide fails; or, if it is not its fault, the run stops, and the slide is done by the
        next one.
        """
        slide_id = step.slide_id
        if why := self._places.why_not_its_fault(failure, self._entries[slide_id].path):
            self._stop.ask(why, at_once=True)
            return ""
        first = self._look.failed(slide_id) or self._schedule.failed(slide_id)
        if first:  # before the ledger: if this run is killed in between, the slide is tried again, and not left without
            self._places.note_failure(step, failure)
        self._ledger.failed(
            step.kind, slide_id, self._failure_key(slide_id), failure, seconds, first=first
        )
        return self._end_failed(slide_id, failure) if first else ""

    def _end_failed(self, slide_id: str, failure: Failure) -> str:
        self._progress.failures[slide_id] = failure
        self._progress.rows[slide_id] = self._row(
            slide_id, "failed", f"{failure.reason}: {failure.message}", {}, None
        )
        return f"{slide_id}: failed, {failure.reason}: {failure.message}"

    def _failure_key(self, slide_id: str) -> str:
        """Changes when a slide that failed is worth another try. Nothing is read for it: that may
        be what failed.
        """
        entry = self._entries[slide_id]
        return short_hash(
            [seen(entry.path), seen(entry.path.with_suffix("")), entry.mpp, self._run.pixels_key]
        )

    def _row(
        self,
        slide_id: str,
        status: Any,
        reason: str,
        summary: dict[str, Any],
        seconds: float | None,
    ) -> SlideRow:
        e = self._entries[slide_id]
        return SlideRow(
            slide_id, e.path, e.patient_id, e.group, status, reason, summary, seconds, e.extra
        )

    def rows(self) -> list[SlideRow]:
        """A row for every slide that was submitted; those that have not ended are skipped, with the
        reason.
        """
        ended, why_not = (
            self._progress.rows,
            f"stopped: {self._stop.reason}" if self._stop.reason else "lost",
        )
        rows = (
            ended.get(i) or self._done_before(i) or self._row(i, "skipped", why_not, {}, None)
            for i in self._entries
        )
        return sorted(rows, key=lambda row: row.slide_id)

    def _done_before(self, slide_id: str) -> SlideRow | None:
        """The row of a slide that was done before a run which was stopped got to it."""
        if self._stop.reason is None:
            return None
        try:
            summary = read_json(self._run.folder(slide_id).summary) or {}
        except StoreError:  # the next run will say so
            return None
        seen_then = summary.get("fingerprint", ""), summary.get("modified", "")
        key = self._run.key(*seen_then, self._entries[slide_id].mpp)
        if summary.get("key") != key:
            return None
        return self._row(
            slide_id, "done", "", summary, round(self._ledger.seconds(slide_id, key), 1)
        )


def run_context(settings: RunSettings, out: Path) -> RunContext:
    """What all jobs share; the output folder is there afterwards.

    Raises:
        UsageError: if there is no such model or device, or the folder cannot be written or holds
            somebody else's files.
    """
    model = find_model(settings.model)
    card = read_card(model)
    verify_weights(model, card)
    settings.tiling(card)
    device = resolve_device(settings.device)
    backend = resolve_backend(settings.backend, device)
    try:
        check_free(out)
        (out / "slides").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    gpus = len(gpus_of(device))
    processes = 1 if settings.engine == "serial" else settings.processes(gpus)
    processes_per_gpu = -(-processes // gpus) if gpus and not settings.scheduler else 1
    _check_memory(settings, card, processes)
    threads = settings.torch_threads(processes)
    key = settings.pixels_key(card, read_config(model), device, backend)
    return RunContext(
        str(out.resolve()),
        str(model.resolve()),
        card,
        settings,
        device,
        backend,
        threads,
        processes_per_gpu,
        key,
    )


def _check_memory(settings: RunSettings, card: ModelCard, processes: int) -> None:
    """See that a block fits the memory of a worker.

    Raises:
        UsageError: if it does not.
    """
    point = Frame(Extent(1, 1), card.mpp, card.mpp)
    nothing = TissueMask(np.zeros((1, 1), np.bool_), point, "none", ())
    plan = plan_tiles("", point, nothing, settings.tiling(card))
    needed = plan.peak_bytes(settings.batch_size or 1) + WORKER_BYTES
    if needed > (budget := settings.worker_bytes(processes)):
        raise UsageError(
            f"a worker may hold {budget / 1e9:.2f} GB (--max-memory, or its share of the machine), but model and one "
            f"block of {plan.block_px} px need up to {needed / 1e9:.2f} GB; allow more, take fewer --workers or a "
            "smaller block_px"
        )


def with_servers(run: RunContext, stack: ExitStack) -> RunContext:
    """The run with an inference server for each GPU, until the stack is left; as it is, if it is to
    have none.
    """
    if not is_served(run.settings, run.device, Path(run.model)):
        return run
    from noctile.workflows.inference.server import CONCURRENT_BATCHES, InferenceServers  # noqa: PLC0415 - only where there is a GPU

    there = replace(run, device="cuda", processes_per_gpu=CONCURRENT_BATCHES)
    servers = stack.enter_context(
        closing(InferenceServers(gpus_of(run.device), partial(ready_predictor, there)))
    )
    return replace(run, servers=servers.addresses)


def start_engine(settings: RunSettings, run: RunContext) -> tuple[Engine, RunContext]:
    """Where the jobs will run, and the run as they see it there."""
    if settings.engine == "serial":
        return SerialEngine(), run
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load, and the serial engine needs none of it

    gpus = gpus_of(run.device)
    processes = settings.processes(len(gpus))
    there = replace(run, device="cuda") if gpus and not settings.scheduler else run
    engine = DaskEngine(
        processes,
        gpus=gpus,
        env=worker_env(run.threads, gpus=bool(gpus) and not run.servers),
        preload=worker_modules(Path(run.model), run.card, run.backend, served=bool(run.servers)),
        begin=partial(load_ahead, there),
        memory_bytes=settings.worker_bytes(processes),
        scheduler=settings.scheduler,
    )
    return engine, there


def _write_tables(rows: list[SlideRow], run: RunContext, start: datetime) -> str | None:
    """Write the tables over those of the run before; why that was not possible, if so: those stand
    then.
    """
    out = Path(run.out)
    table = cohort_table(rows, run.card.classes)
    about = json_text(_about(rows, run, start))
    try:
        write_together(
            {
                out / "slides.parquet": lambda p: pq.write_table(table, p, compression="zstd"),
                out / "slides.csv": lambda p: write_csv(table, p),
                out / "run.json": lambda p: p.write_text(about, encoding="utf-8"),
            }
        )
    except StoreError as error:
        return str(error)
    return None


def _about(rows: list[SlideRow], run: RunContext, start: datetime) -> dict[str, Any]:
    return {
        "start": start.isoformat(timespec="seconds"),
        "end": datetime.now(UTC).isoformat(timespec="seconds"),
        "slides": {
            status: sum(r.status == status for r in rows)
            for status in ("done", "failed", "skipped")
        },
        "settings": run.settings.model_dump(mode="json"),
        "model": {"name": run.card.name, "sha256": run.card.sha256, "folder": run.model},
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "cores": cores(),
            "pid": os.getpid(),
        },
        "device": run.device,
        "backend": run.backend,
        "versions": versions(),
    }
