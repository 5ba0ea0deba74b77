"""Preflight of a run: every slide is opened, its tissue found and its tiles planned.

No tile of a result is predicted, and no result, table or ledger changes. The plan of each slide is
kept in ``.plan/``, and a run continues from there: it does not plan the slide again. At the end a
few real tiles are predicted, to estimate the duration of the run.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from noctile.pipeline.cohort import write_csv
from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.engines.base import USAGE, Engine
from noctile.workflows.jobs.entry import measure_speed
from noctile.workflows.jobs.messages import RunContext, SpeedJob
from noctile.workflows.results.files import write_atomic
from noctile.workflows.results.standing import Standing
from noctile.workflows.run.fault_origin import FaultOrigin
from noctile.workflows.run.loop import RunLoop
from noctile.workflows.run.preflight import PlannedSlide, PlanOnly
from noctile.workflows.run.progress import Observer, Progress
from noctile.workflows.run.run import held, open_context, start_engine
from noctile.workflows.run.stop import Stop
from noctile.workflows.run.submission import settle
from noctile.workflows.settings import RunSettings

CALIBRATION_S = 3.0
"""Time for which each worker predicts tiles (s), after its model is loaded and warm."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured speed of this machine.

    Attributes:
        tiles: number of tiles that were read and predicted.
        tiles_per_s: speed of all workers together (tiles/s).
        workers: number of workers that were measured at the same time.
        slides: ids of the slides whose tiles were predicted.
    """

    tiles: int
    tiles_per_s: float
    workers: int
    slides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """Result of a preflight.

    Attributes:
        slides: planned slides, sorted by id.
        calibration: measured speed; None if there is nothing to predict, or nothing could be.
        free_bytes: free space on the disk of the folder of results (B).
        worker_bytes: memory that each worker may hold (B).
        workers: number of worker processes.
        stopped: reason why the preflight ended early; None if it did not.
    """

    slides: tuple[PlannedSlide, ...]
    calibration: Calibration | None
    free_bytes: int
    worker_bytes: int
    workers: int
    stopped: str | None

    @property
    def left(self) -> int:
        """Number of tiles to predict."""
        return sum(slide.predictions_left for slide in self.slides)

    @property
    def seconds(self) -> float | None:
        """Estimated time of all predictions (s); None if the speed was not measured."""
        if not self.left:
            return 0.0
        return self.left / self.calibration.tiles_per_s if self.calibration else None

    def totals(self) -> list[str]:
        """Return the totals of all slides, as lines for a reader."""
        n = Counter(slide.state for slide in self.slides)
        states = [
            f"{n[s]} {s}" for s in ("ready", "done", "failed", "skipped") if n[s] or s == "ready"
        ]
        blank = sum("no_tissue" in slide.qc_flags for slide in self.slides)
        twice = sum(bool(slide.same_file or slide.same_content) for slide in self.slides)
        tissue_mm2 = sum(slide.tissue_area_mm2 or 0.0 for slide in self.slides)
        disk = sum(slide.disk_bytes for slide in self.slides)
        task = max((slide.task_bytes for slide in self.slides), default=0)
        short = "; that may not be enough" if disk > self.free_bytes else ""
        predictions = sum(slide.predictions or 0 for slide in self.slides)
        return [
            f"{len(self.slides)} slides: {', '.join(states)}; {blank} without tissue, "
            f"{twice} duplicates",
            f"tissue {tissue_mm2:.2f} mm2, {predictions} predictions, {self.left} to do",
            self._time(),
            f"disk: masks at most {disk / 1e9:.2f} GB, {self.free_bytes / 1e9:.2f} GB free{short}",
            f"memory: a task at most {task / 1e9:.2f} GB beside the model; each of {self.workers} "
            f"workers may hold {self.worker_bytes / 1e9:.2f} GB",
        ]

    def _time(self) -> str:
        if self.seconds is None or not self.calibration:
            if not self.left and all(slide.state != "skipped" for slide in self.slides):
                return "time: nothing to predict"
            return "time: unknown, the speed was not measured"
        c, hours = self.calibration, self.seconds / 3600
        lasts = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
        return (
            f"time: about {lasts} at {c.tiles_per_s:.3g} tiles/s with {c.workers} jobs at once "
            f"(measured on {c.tiles} tiles of {', '.join(c.slides[:3])}; reading and predicting "
            "alone)"
        )

    @property
    def exit_code(self) -> int:
        """Exit code of the command.

        0: all slides can be done. 1: some will fail. 2: none can be done. 3: stopped.
        """
        states = Counter(slide.state for slide in self.slides)
        if self.stopped:
            return 3
        return 0 if not states["failed"] else 1 if states["ready"] or states["done"] else 2


def plan_slides(
    entries: Sequence[SlideEntry], settings: RunSettings, out: Path, observe: Observer
) -> PlanResult:
    """Plan all slides and estimate the duration of the run.

    Writes ``plan.csv``, and a plan of each slide that is to be done to ``.plan/``, where a run
    finds it. Nothing else in ``out`` changes.

    Args:
        entries: slides to plan.
        settings: settings of the run.
        out: folder of results; it is created if it does not exist.
        observe: called after each slide.

    Raises:
        UsageError: if no slide can be done, as in `noctile.workflows.run.run.run_slides`.
    """
    context = open_context(settings, out, planning=True)
    progress = Progress(len(entries))
    stop = Stop(
        out, settings.min_free_disk_bytes, None, lambda why: observe(progress, f"stopping: {why}")
    )
    calibration = None
    with held(out, stop, planning=True) as (lease, ledger):
        standing = Standing(context.results, ledger.state)
        submission = settle(entries, (), standing, ledger.state)
        plan_only = PlanOnly(context, {entry.slide_id: entry for entry in submission.entries})
        fault_origin = FaultOrigin(submission.entries, out, lease)
        loop = RunLoop(submission, context, ledger, standing, stop, fault_origin, progress, observe)
        with closing(start_engine(context)) as engine:
            loop.run(engine, plan_only.add)
            slides = plan_only.slides(progress.failures, stop.reason)
            if stop.reason is None:
                jobs = _speed_jobs(engine, context, plan_only, slides)
                calibration = _calibrate(engine, stop, jobs)
        if fault_origin.folder_lost() is None:
            write_atomic(context.results.plan_table, lambda p: write_csv(_table(slides), p))
    resources, free_bytes = context.resources, shutil.disk_usage(out).free
    return PlanResult(
        slides, calibration, free_bytes, resources.worker_bytes, resources.workers, stop.reason
    )


def _speed_jobs(
    engine: Engine, context: RunContext, plan_only: PlanOnly, slides: Sequence[PlannedSlide]
) -> list[SpeedJob]:
    """Measurements of all workers at the same time, on tiles of the first slides."""
    chosen = [slide.slide_id for slide in slides if slide.predictions_left][: engine.slots]
    return [
        SpeedJob(
            f"{n}/{slide_id}",
            plan_only.entries[slide_id],
            context,
            plan_only.folders[slide_id],
            CALIBRATION_S,
        )
        for n, slide_id in enumerate(islice(cycle(chosen), engine.slots))
    ]


def _calibrate(engine: Engine, stop: Stop, jobs: Sequence[SpeedJob]) -> Calibration | None:
    """Let all workers predict tiles at the same time, as in a run.

    Raises:
        UsageError: if the model is broken.
    """
    if not jobs:
        return None
    queue = iter(jobs)
    outcomes = list(engine.run(measure_speed, lambda: next(queue, None), stop))
    for outcome in outcomes:
        if outcome.failure and outcome.failure.reason == USAGE:
            raise UsageError(outcome.failure.message)
    measured = [outcome.value for outcome in outcomes if outcome.failure is None]
    if not measured:
        return None
    speed = sum(tiles / seconds for tiles, seconds in measured)
    chosen = dict.fromkeys(job.entry.slide_id for job in jobs)
    return Calibration(sum(n for n, _ in measured), speed, len(measured), tuple(chosen))


def _table(slides: Sequence[PlannedSlide]) -> pa.Table:
    """Rows of ``plan.csv``, one for each slide; the names of the columns have the units."""
    columns: dict[str, Any] = {
        "slide_id": pa.array([s.slide_id for s in slides], pa.string()),
        "path": pa.array([str(s.path) for s in slides], pa.string()),
        "state": pa.array([s.state for s in slides], pa.string()),
        "reason": pa.array([s.reason for s in slides], pa.string()),
        "message": pa.array([s.message for s in slides], pa.string()),
        "mpp_y": pa.array([s.mpp[0] if s.mpp else None for s in slides], pa.float64()),
        "mpp_x": pa.array([s.mpp[1] if s.mpp else None for s in slides], pa.float64()),
        "mpp_source": pa.array([s.mpp_source for s in slides], pa.string()),
        "tissue_area_mm2": pa.array([s.tissue_area_mm2 for s in slides], pa.float64()),
        "predictions": pa.array([s.predictions for s in slides], pa.int64()),
        "predictions_left": pa.array([s.predictions_left for s in slides], pa.int64()),
        "disk_bytes_at_most": pa.array([s.disk_bytes for s in slides], pa.int64()),
        "task_bytes_at_most": pa.array([s.task_bytes for s in slides], pa.int64()),
        "qc_flags": pa.array([";".join(s.qc_flags) for s in slides], pa.string()),
        "same_file_as": pa.array([s.same_file for s in slides], pa.string()),
        "same_content_as": pa.array([s.same_content for s in slides], pa.string()),
    }
    return pa.table(columns)
