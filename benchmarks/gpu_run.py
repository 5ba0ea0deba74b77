"""A whole run, as a user starts it, on two slides: speed, times of the steps, GPU time, memory."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import BUILD
from noctile.pipeline.models.folder import read_card
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.processes.control import memory_bytes
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

Report = Callable[[str, str], None]
"""Adds a line to a table: its name and its figure."""


class PeakMemory:
    """Peak memory of the descendants of this process while the context is open.

    Attributes:
        together: peak of all descendants together (B).
        largest: peak of the largest descendant (B).
    """

    def __init__(self) -> None:
        self.together = self.largest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(1):
            held = [memory_bytes(child.pid) for child in psutil.Process().children(recursive=True)]
            self.together, self.largest = max(self.together, sum(held)), max(self.largest, *held, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, from the ledger.

    Attributes:
        event: kind of the step.
        slide_id: id of its slide.
        block: (row, col) of its block; None for a step of the whole slide.
        begin: start of the step (s since 1970).
        end: end of the step (s since 1970).
    """

    event: str
    slide_id: str
    block: tuple[int, ...] | None
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Everything that a run left.

    Attributes:
        result: result of the run.
        seconds: time of the run with its start and end (s).
        steps: steps of the run.
        failures: lines of the ledger about failures.
        tiles: number of tiles of each block, by slide and position of the block.
        memory: peak memory of the run's processes.
    """

    result: RunResult
    seconds: float
    steps: list[Step]
    failures: list[dict[str, Any]]
    tiles: dict[tuple[str, tuple[int, ...]], int]
    memory: PeakMemory

    @property
    def blocks(self) -> list[Step]:
        """Steps that segmented a block."""
        return [step for step in self.steps if step.event == "segment"]


def whole_run(report: Report, path: Path, model: Path, alone: float, **settings: Any) -> None:
    """Run Noctile on two slides of the same pixels, and report the figures.

    Args:
        report: adds a line to the table.
        path: slide.
        model: folder of the model.
        alone: speed of the network alone (tiles/s); 0 where it is not known.
        settings: settings of the run.
    """
    run = _run(path, RunSettings(model=str(model.resolve()), **settings))
    words = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "device")
    name = f"whole run, {read_card(model).name}, {words}"
    if any(row.status != "done" for row in run.result.rows):
        report(name, f"FAILED: {run.failures}")
        return
    pace = run.result.pace
    report(
        name, f"{run.seconds:.1f} s with start and end, {pace.predictions} tiles; {run.result.pace}"
    )
    _report_speed(report, run, alone)
    _report_steps(report, run)
    gpu_s = None if pace.gpu_busy is None else pace.gpu_busy * pace.seconds / 2
    report("GPU time a slide", "unknown" if gpu_s is None else f"{gpu_s:.2f} s")
    together_gb, largest_gb = run.memory.together / 1e9, run.memory.largest / 1e9
    report(
        "memory of its processes", f"{together_gb:.1f} GB together, the largest {largest_gb:.2f}"
    )


def _run(path: Path, settings: RunSettings) -> WholeRun:
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        slides = [Path(scratch) / f"{name}.tif" for name in ("first", "second")]
        for link in slides:
            link.hardlink_to(path)
        start, out = time.perf_counter(), Path(scratch) / "results"
        with PeakMemory() as memory:
            result = run_slides(
                find_slides(slides, None, None).slides, settings, out, lambda *_: None
            )
        seconds = time.perf_counter() - start
        lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
        failures = [line for line in lines if line["event"] == "failed"]
        tiles = dict(_block_tiles(out.glob("slides/*/plan.json")))
    return WholeRun(result, seconds, _steps(lines), failures, tiles, memory)


def _steps(lines: Iterable[dict[str, Any]]) -> list[Step]:
    steps = []
    for line in lines:
        if "seconds" in line:
            end = datetime.fromisoformat(line["time"]).timestamp()
            block = tuple(line["block"]) if line.get("block") else None
            begin = end - line["seconds"]
            steps.append(Step(line["event"], line["slide_id"], block, begin, end))
    return steps


def _block_tiles(
    plans: Iterable[Path],
) -> Iterable[tuple[tuple[str, tuple[int, ...]], int]]:
    for file in plans:
        for block in TilePlan.from_json(json.loads(file.read_text())["plan"]).blocks:
            yield (file.parent.name, block.key), len(block.tiles)


def _report_speed(report: Report, run: WholeRun, alone: float) -> None:
    seconds = max(step.end for step in run.blocks) - min(step.begin for step in run.blocks)
    speed = run.result.pace.predictions / seconds
    report("its blocks", f"{speed:.4g} tiles/s from the first to the last, {seconds:.2f} s")
    rate = _steady(run)
    report(
        "when under way (from the first fifth of the tiles to the last but a twentieth)",
        f"{rate:.4g} tiles/s",
    )
    if alone:
        report("the same / network alone", f"{rate / alone:.1%}")


def _report_steps(report: Report, run: WholeRun) -> None:
    first = min(step.begin for step in run.blocks)
    begins = [
        (step.event, step.slide_id, round(step.begin - first, 2))
        for step in run.steps
        if step.event != "segment"
    ]
    report("its steps (s since the first block)", f"{begins}")
    done = {
        step.slide_id: round(step.end - first, 2) for step in run.steps if step.event == "finish"
    }
    report("its slides were done (s since the first block)", f"{done}")


def _steady(run: WholeRun) -> float:
    """Speed from the end of a fifth of the tiles to that of all but a twentieth (tiles/s)."""
    blocks = [(step.end, run.tiles[step.slide_id, step.block or ()]) for step in run.blocks]
    times, tiles = (np.array(values) for values in zip(*sorted(blocks), strict=True))
    done = np.cumsum(tiles)
    begin, end = np.searchsorted(done, [0.2 * done[-1], 0.95 * done[-1]])
    return float((done[end] - done[begin]) / (times[end] - times[begin]))
