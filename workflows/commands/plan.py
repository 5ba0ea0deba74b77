"""The preflight of a night: every slide is opened, its tissue found and its tiles planned; nothing
is predicted.

What it writes is what the run would write first, in staging, under the same lease and in the same
ledger, so the run goes on from there: a slide that is planned is not planned again, and one that
failed here has failed. A short calibration then shows a few real tiles to the model, for the hours
that the night will take.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from noctile.pipeline.cohort import write_csv
from noctile.pipeline.errors import StoreError
from noctile.pipeline.models.device import gpus_of
from noctile.pipeline.normalize import predictor_for_slide
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.commands.status import PLAN_TABLE
from noctile.workflows.engines.base import Engine
from noctile.workflows.jobs.messages import Prepared, RunContext
from noctile.workflows.jobs.worker import predictor, read_plan
from noctile.workflows.results.layout import read_json, write_atomic
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.run.fault_origin import FaultOrigin
from noctile.workflows.run.run import Night, Observer, Progress, hold, run_context, start_engine
from noctile.workflows.run.stop import Stop, stopped_by_signals
from noctile.workflows.settings import RunSettings

CALIBRATION_S = 3.0
"""How long each worker looks at tiles (s), after its model is loaded and warm."""

State = Literal["ready", "done", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class PlannedSlide:
    """What the night has to do for one slide.

    Attributes:
        slide_id: of the slide.
        path: of the slide.
        state: ``ready``; ``done`` by an earlier run; ``failed``: the run would fail it;
            ``skipped``: the preflight was stopped before.
        reason: why it failed or was skipped: a code and a message; else "".
        mpp: pixel size of level 0 (um; y, x).
        mpp_source: where that comes from.
        tissue_area_mm2: that was found (mm2).
        predictions: tiles that pass through the model.
        predictions_left: those that no earlier run has done.
        disk_bytes: upper bound of its masks (B).
        task_bytes: upper bound of what a task holds beside the model (B).
        flags: what to know before trusting it.
        fingerprint: of its content.
        same_file: which slide before it is the same file under another name; "" if none.
        same_content: which slide before it has the same size and sampled content; "" if none.
    """

    slide_id: str
    path: Path
    state: State
    reason: str = ""
    mpp: tuple[float, float] | None = None
    mpp_source: str | None = None
    tissue_area_mm2: float | None = None
    predictions: int | None = None
    predictions_left: int = 0
    disk_bytes: int = 0
    task_bytes: int = 0
    flags: tuple[str, ...] = ()
    fingerprint: str = ""
    same_file: str = ""
    same_content: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How fast this machine is.

    Attributes:
        tiles: that were read and predicted.
        tiles_per_s: of all workers together.
        workers: jobs at once.
        slides: whose tiles they were.
    """

    tiles: int
    tiles_per_s: float
    workers: int
    slides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The night before it begins.

    Attributes:
        slides: by id.
        calibration: None if there is nothing to predict, or nothing could be.
        free_bytes: of the disk with the output folder (B).
        worker_bytes: that a worker may hold (B).
        workers: processes.
        stopped: why the preflight ended early; None if it did not.
    """

    slides: tuple[PlannedSlide, ...]
    calibration: Calibration | None
    free_bytes: int
    worker_bytes: int
    workers: int
    stopped: str | None

    @property
    def left(self) -> int:
        """Predictions that are to be done."""
        return sum(slide.predictions_left for slide in self.slides)

    @property
    def seconds(self) -> float | None:
        """Time that they will take (s); None if nobody knows."""
        if not self.left:
            return 0.0
        return self.left / self.calibration.tiles_per_s if self.calibration else None

    def totals(self) -> list[str]:
        """All slides together, as lines for people."""
        n = Counter(slide.state for slide in self.slides)
        states = [
            f"{n[s]} {s}" for s in ("ready", "done", "failed", "skipped") if n[s] or s == "ready"
        ]
        blank = sum("no_tissue" in slide.flags for slide in self.slides)
        twice = sum(bool(slide.same_file or slide.same_content) for slide in self.slides)
        tissue_mm2 = sum(slide.tissue_area_mm2 or 0.0 for slide in self.slides)
        disk = sum(slide.disk_bytes for slide in self.slides)
        task = max((slide.task_bytes for slide in self.slides), default=0)
        short = "; that may not be enough" if disk > self.free_bytes else ""
        predictions = sum(slide.predictions or 0 for slide in self.slides)
        return [
            f"{len(self.slides)} slides: {', '.join(states)}; {blank} without tissue, {twice} duplicates",
            f"tissue {tissue_mm2:.2f} mm2, {predictions} predictions, {self.left} to do",
            self._hours(),
            f"disk: masks at most {disk / 1e9:.2f} GB, {self.free_bytes / 1e9:.2f} GB free{short}",
            f"memory: a task at most {task / 1e9:.2f} GB beside the model; each of {self.workers} workers may hold "
            f"{self.worker_bytes / 1e9:.2f} GB",
        ]

    def _hours(self) -> str:
        if self.seconds is None or not self.calibration:
            known = not self.left and all(slide.state != "skipped" for slide in self.slides)
            return (
                "time: nothing to predict" if known else "time: unknown, the speed was not measured"
            )
        c, hours = self.calibration, self.seconds / 3600
        lasts = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
        return (
            f"time: about {lasts} at {c.tiles_per_s:.3g} tiles/s with {c.workers} jobs at once "
            f"(measured on {c.tiles} tiles of {', '.join(c.slides[:3])}; reading and predicting alone)"
        )

    @property
    def exit_code(self) -> int:
        """0 all fine, 1 some slides will fail, 2 nothing can be done, 3 stopped."""
        states = Counter(slide.state for slide in self.slides)
        if self.stopped:
            return 3
        return 0 if not states["failed"] else 1 if states["ready"] or states["done"] else 2


def plan_slides(
    entries: Sequence[SlideEntry], settings: RunSettings, out: Path, observe: Observer
) -> PlanResult:
    """Look at all slides before the night begins.

    Leaves ``plan.csv`` in ``out``, and in staging a plan of each slide that is to be done. Results
    that are done stay as they are, under these settings or others.

    Raises:
        UsageError: if nothing can be done for any slide, as in
            `noctile.workflows.run.run.run_slides`.
    """
    context = run_context(settings, out)
    progress, by_id = Progress(len(entries)), {entry.slide_id: entry for entry in entries}
    stop = Stop(
        out, settings.min_free_disk_bytes, None, lambda why: observe(progress, f"stopping: {why}")
    )
    calibration = None
    with (
        stopped_by_signals(stop),
        closing(hold(out, stop)) as lease,
        closing(Ledger(out / "ledger.jsonl")) as ledger,
    ):
        engine, run = start_engine(settings, context)
        places = FaultOrigin(entries, out, lease)
        night = _Preflight(by_id, run, ledger, observe, stop, places, progress)
        with closing(engine):
            night.go(engine)
            slides = night.slides()
            if stop.reason is None:
                calibration = _calibrate(engine, stop, run, by_id, slides)
        if places.why_not_ours() is None:
            write_atomic(out / PLAN_TABLE, lambda p: write_csv(_table(slides), p))
    workers = 1 if settings.engine == "serial" else settings.processes(len(gpus_of(context.device)))
    free_bytes = shutil.disk_usage(out).free
    return PlanResult(
        slides, calibration, free_bytes, settings.worker_bytes(workers), workers, stop.reason
    )


class _Preflight(Night):
    """A night that is over for a slide once it is prepared."""

    command = "plan"

    def __init__(self, *of_a_night: Any) -> None:
        super().__init__(*of_a_night)
        self._plans: dict[str, PlannedSlide] = {}

    def _new(self, to_do: Iterable[str]) -> list[str]:  # noqa: ARG002 - all of it is a first look
        return []

    def _prepared(self, slide_id: str, prepared: Prepared, seconds: float) -> str:
        self._note(slide_id, prepared, seconds)
        self._schedule.prepared(slide_id, (), finished=True)
        self._spent.pop(slide_id, None)
        slide = self._planned(slide_id, prepared)
        self._plans[slide_id] = slide
        self._progress.done += 1
        return f"{slide_id}: {slide.predictions} tiles, {slide.tissue_area_mm2:.2f} mm2 of tissue"

    def _planned(self, slide_id: str, prepared: Prepared) -> PlannedSlide:
        run, entry = self._run, self._entries[slide_id]
        folder = run.folder(slide_id) if prepared.finished else run.under_way(slide_id)
        described = read_json(folder.plan)
        if described is None:
            raise StoreError(
                f"{folder.plan} has gone while it was being used; run the same command again"
            )
        about, plan = described["slide"], TilePlan.from_json(described["plan"])
        done = self._standing(slide_id, prepared)
        estimated = ["mpp_estimated"] if about["mpp_source"] == "objective power" else []
        return PlannedSlide(
            slide_id,
            entry.path,
            "done" if prepared.finished else "ready",
            mpp=(about["mpp"][0], about["mpp"][1]),
            mpp_source=about["mpp_source"],
            tissue_area_mm2=described["tissue"]["area_mm2"],
            predictions=plan.predictions,
            predictions_left=0
            if prepared.finished
            else sum(len(b.tiles) for b in plan.blocks if b.key not in done),
            disk_bytes=0 if prepared.finished else plan.disk_bytes,
            task_bytes=plan.peak_bytes(self._run.settings.batch_size or 1),
            flags=tuple(sorted([*described["tissue"]["flags"], *estimated])),
            fingerprint=about["fingerprint"],
        )

    def slides(self) -> tuple[PlannedSlide, ...]:
        """Every slide that was submitted, by id."""
        slides = [
            self._plans.get(slide_id) or self._unplanned(slide_id)
            for slide_id in sorted(self._entries)
        ]
        firsts: dict[Any, str] = {}
        return tuple(_with_twin(slide, firsts) for slide in slides)

    def _unplanned(self, slide_id: str) -> PlannedSlide:
        path, failure = self._entries[slide_id].path, self._progress.failures.get(slide_id)
        if failure:
            return PlannedSlide(slide_id, path, "failed", f"{failure.reason}: {failure.message}")
        return PlannedSlide(slide_id, path, "skipped", f"stopped: {self._stop.reason}")


def _with_twin(slide: PlannedSlide, firsts: dict[Any, str]) -> PlannedSlide:
    """The slide, with the first one that is the same; ``firsts`` knows those before it, by file and
    by content.
    """
    try:
        about = slide.path.stat()
        file: Any = (about.st_dev, about.st_ino)
    except OSError:
        file = ("gone", slide.slide_id)
    content = ("content", slide.fingerprint or slide.slide_id)
    one, other = (firsts.setdefault(key, slide.slide_id) for key in (file, content))
    return replace(
        slide,
        same_file="" if one == slide.slide_id else one,
        same_content="" if other == slide.slide_id else other,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """Show tiles of a planned slide to the model for `CALIBRATION_S`: how many, in how many
    seconds.
    """

    key: str
    entry: SlideEntry
    run: RunContext
    limit_s: float = 60.0 + CALIBRATION_S

    @property
    def group(self) -> str:
        return self.key


def _look(job: _Look) -> tuple[int, float]:
    run = job.run
    plan, _, stain = read_plan(run.under_way(job.entry.slide_id))
    predict = predictor_for_slide(predictor(run), stain)
    batch_size = run.settings.batch_size or predict.batch_size
    middle = plan.blocks[len(plan.blocks) // 2].tiles
    reader = open_slide(job.entry.path, slide_id=job.entry.slide_id, mpp=job.entry.mpp)
    n, start = 0, 0.0
    try:
        tiles = read_tiles(reader, plan, cycle(middle))
        while batch := list(islice(tiles, batch_size)):
            float(predict(np.stack([pixels for _, pixels in batch]))[0, 0, 0, 0])  # waits for a GPU
            if not start:  # the first batch warms up
                start = time.perf_counter()
                continue
            n += len(batch)
            if time.perf_counter() - start > CALIBRATION_S:
                break
    finally:
        reader.close()
    return n, time.perf_counter() - start


def _calibrate(
    engine: Engine,
    stop: Stop,
    run: RunContext,
    entries: dict[str, SlideEntry],
    slides: Sequence[PlannedSlide],
) -> Calibration | None:
    """Let all workers look at tiles of the first slides at once, as they will at night."""
    chosen = [slide.slide_id for slide in slides if slide.predictions_left][: engine.slots]
    if not chosen:
        return None
    looks = (
        _Look(f"{n}/{slide_id}", entries[slide_id], run)
        for n, slide_id in enumerate(islice(cycle(chosen), engine.slots))
    )
    done = [
        outcome.value
        for outcome in engine.run(_look, lambda: next(looks, None), stop)
        if outcome.failure is None
    ]
    if not done:
        return None
    speed = sum(tiles / seconds for tiles, seconds in done)
    return Calibration(sum(tiles for tiles, _ in done), speed, len(done), tuple(chosen))


def _table(slides: Sequence[PlannedSlide]) -> pa.Table:
    """One row a slide; units are in the names."""
    columns: dict[str, Any] = {
        "slide_id": pa.array([s.slide_id for s in slides], pa.string()),
        "path": pa.array([str(s.path) for s in slides], pa.string()),
        "state": pa.array([s.state for s in slides], pa.string()),
        "reason": pa.array([s.reason for s in slides], pa.string()),
        "mpp_y": pa.array([s.mpp[0] if s.mpp else None for s in slides], pa.float64()),
        "mpp_x": pa.array([s.mpp[1] if s.mpp else None for s in slides], pa.float64()),
        "mpp_source": pa.array([s.mpp_source for s in slides], pa.string()),
        "tissue_area_mm2": pa.array([s.tissue_area_mm2 for s in slides], pa.float64()),
        "predictions": pa.array([s.predictions for s in slides], pa.int64()),
        "predictions_left": pa.array([s.predictions_left for s in slides], pa.int64()),
        "disk_bytes_at_most": pa.array([s.disk_bytes for s in slides], pa.int64()),
        "task_bytes_at_most": pa.array([s.task_bytes for s in slides], pa.int64()),
        "flags": pa.array([";".join(s.flags) for s in slides], pa.string()),
        "same_file_as": pa.array([s.same_file for s in slides], pa.string()),
        "same_content_as": pa.array([s.same_content for s in slides], pa.string()),
    }
    return pa.table(columns)
