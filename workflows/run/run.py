"""READ THIS FIRST. A run: slides in, masks and tables out.

    for each slide      prepare:  open, find tissue, plan tiles          (jobs/prepare.py)
    for each block      segment:  read, predict, join, write its shard   (jobs/segment_block.py)
    for each slide      finish:   pyramid, figures, preview, summary     (jobs/finish.py)
    if asked for        export:   files for other programs               (jobs/export_slide.py)

`RunLoop` asks the `Schedule` for the next step, an `Engine` does it in some process, and the
`Ledger` records the outcome. The result does not depend on the engine, on the number of workers or
on the order of anything.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from noctile.pipeline.errors import NoctileError, StoreError, UsageError
from noctile.pipeline.models.load import modules_to_import
from noctile.pipeline.slides.discover import LeftOut, SlideEntry
from noctile.workflows.engines.base import Engine
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.entry import JOB_MODULES, load_ahead, ready_predictor
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.processes.environment import worker_env
from noctile.workflows.processes.usage import Usage
from noctile.workflows.quantities import next_moment
from noctile.workflows.results.guard import check_free
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.ledger import Ledger, long_lines_note
from noctile.workflows.results.run_log import RunLog
from noctile.workflows.results.staging import heal, take_healed
from noctile.workflows.results.standing import Standing
from noctile.workflows.run.fault_origin import FaultOrigin
from noctile.workflows.run.loop import RunLoop
from noctile.workflows.run.model import open_model
from noctile.workflows.run.progress import Observer, Pace, Progress, RunResult, logged
from noctile.workflows.run.record import RunRecord, run_id
from noctile.workflows.run.stop import GRACE_S, Stop, stopped_by_signals
from noctile.workflows.run.submission import check_replaced, settle
from noctile.workflows.settings import RunSettings


def run_slides(
    entries: Sequence[SlideEntry],
    settings: RunSettings,
    out: Path,
    observe: Observer,
    left_out: Sequence[LeftOut] = (),
) -> RunResult:
    """Segment slides into ``out``, and continue what an earlier run of the same command left there.

    Args:
        entries: slides to segment.
        settings: settings of the run.
        out: folder of results; it is created if it does not exist.
        observe: called after each outcome.
        left_out: paths that were found and are no slides of the run; the tables name them.

    Raises:
        UsageError: if no slide can be done: there is no such model or device, or ``out`` cannot be
            written or belongs to a run that is alive. Also if the run would replace results that
            another model or other settings have made.
        NoctileError: if a slide has no outcome although the run ended: a defect of Noctile.
    """
    start = datetime.now(UTC)
    context = open_context(settings, out, run_id(start))
    progress, log = Progress(len(entries)), RunLog(context.results.run_log)
    observe = logged(observe, log)
    until = next_moment(settings.until, start.astimezone()) if settings.until else None
    stop = Stop(out, settings.min_free_disk_bytes, until, partial(_announce, observe, progress))
    work, own = partial(_work, progress), settings.scheduler is None
    usage = Usage(context.resources.gpus, work, own_workers=own)
    record = RunRecord(context, start, usage)
    observe = record.kept_current(observe)
    with held(out, stop) as (lease, ledger), ExitStack() as stack:
        log.write(f"run of {len(entries)} slides with model {context.card.name}")
        if lease.taken_from:
            observe(progress, f"continuing what {lease.taken_from} left when it died")
        standing = Standing(context.results, ledger.state)
        submission = settle(entries, left_out, standing, ledger.state)
        check_replaced(submission, standing, context)
        damaged = long_lines_note(context.results.ledger, ledger.state.long_lines)
        for line in filter(None, [damaged, *submission.notes]):
            observe(progress, line)
        record.write()
        context = with_servers(context, stack)
        fault_origin = FaultOrigin(submission.entries, out, lease)
        loop = RunLoop(submission, context, ledger, standing, stop, fault_origin, progress, observe)
        with closing(start_engine(context)) as engine:
            begun = time.perf_counter()
            with usage:
                loop.run(engine)
        pace = Pace(progress.predictions, time.perf_counter() - begun, usage.busy)
        lost_folder = fault_origin.folder_lost()
        if stop.reason and not lost_folder:
            _complete_moves(context, standing)
        rows = loop.rows()
        if unsaved := lost_folder or _save(loop, record, stop.reason):
            stop.ask(unsaved, at_once=True)
        elif problem := loop.report.write():
            observe(progress, problem)
        for folder in (context.results.staging, context.results.planned):
            with suppress(OSError):  # a slide that failed or was stopped is still in it
                folder.rmdir()
    if stop.reason is None and (lost := [row.slide_id for row in rows if row.status == "skipped"]):
        raise NoctileError(
            f"{len(lost)} slides have no outcome, {lost[0]} among them: a defect of Noctile, "
            "report it"
        )
    return RunResult(rows, stop.reason, pace, tuple(loop.exports.failures))


def _work(progress: Progress) -> tuple[int, int]:
    return progress.done, progress.predictions


def _announce(observe: Observer, progress: Progress, reason: str) -> None:
    observe(
        progress,
        f"stopping: {reason}; what is under way may end within {GRACE_S:.0f} s, nothing new is "
        "started",
    )


def open_context(
    settings: RunSettings, out: Path, run: str = "", *, planning: bool = False
) -> RunContext:
    """Check the model, the machine and the folder of results, which exists afterwards.

    Args:
        settings: settings of the run.
        out: folder of results.
        run: run id.
        planning: True for ``noctile plan``.

    Raises:
        UsageError: if there is no such model or device, if a block does not fit into memory, or if
            the folder cannot be written or holds files that no run has written.
    """
    model = open_model(settings)
    results = ResultsFolder(out)
    try:
        check_free(results)
        (results.planned if planning else results.slides).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error
    results = ResultsFolder(out.resolve())
    about = model.card, settings, model.resources, model.pixels_key
    return RunContext(results, model.folder, *about, run, planning)


@contextmanager
def held(out: Path, stop: Stop, *, planning: bool = False) -> Iterator[tuple[Lease, Ledger]]:
    """Hold a folder of results, with its ledger open, and let signals stop the run.

    First it removes files that killed processes left, and completes the moves out of
    ``.staging/`` that they had begun.

    Args:
        out: folder of results.
        stop: stop signal of the run.
        planning: True for ``noctile plan``, which records nothing in the ledger.

    Raises:
        UsageError: if another run holds the folder, or it cannot be written.
    """
    results, lost = ResultsFolder(out), partial(stop.ask, at_once=True)
    with (
        stopped_by_signals(stop),
        closing(take_healed(results, f"--out {out}", lost)) as lease,
        closing(Ledger(results.ledger, read_only=planning)) as ledger,
    ):
        yield lease, ledger


def with_servers(context: RunContext, stack: ExitStack) -> RunContext:
    """Start an inference server for each GPU, if the run uses servers; the stack stops them."""
    resources = context.resources
    if not resources.served:
        return context
    from noctile.workflows.inference.server import CONCURRENT_BATCHES, InferenceServers  # noqa: PLC0415 - only where there is a GPU

    served = replace(context, resources=replace(resources, processes_per_gpu=CONCURRENT_BATCHES))
    servers = InferenceServers(resources.gpus, partial(ready_predictor, served))
    return replace(context, servers=stack.enter_context(closing(servers)).addresses)


def start_engine(context: RunContext) -> Engine:
    """Start the engine that the settings name."""
    settings, resources = context.settings, context.resources
    if settings.engine == "serial":
        load_ahead(context)
        return SerialEngine()
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load, and the serial engine needs none of it

    served = bool(context.servers)
    model_modules = modules_to_import(Path(context.model), context.card, resources.backend)
    return DaskEngine(
        resources.workers,
        gpus=resources.gpus,
        env=worker_env(resources.threads, gpus=bool(resources.gpus) and not served),
        preload=(*JOB_MODULES, *(() if served else model_modules)),
        begin=partial(load_ahead, context),
        memory_bytes=resources.worker_bytes,
        scheduler=settings.scheduler,
    )


def _complete_moves(context: RunContext, standing: Standing) -> None:
    """Complete the moves that interrupted steps had begun, and read again what stands.

    On a scheduler of its own, abandoned steps may still be at work: the next run completes them.
    """
    with suppress(StoreError, OSError):  # the next run tries again
        if context.settings.scheduler is None:
            heal(context.results)
        standing.read_again()


def _save(loop: RunLoop, record: RunRecord, stopped: str | None) -> str | None:
    """Write the record and the tables. If that fails, return the reason."""
    try:
        record.write(loop.rows(), stopped)
        loop.tables.write()
    except StoreError as error:
        return str(error)
    return None
