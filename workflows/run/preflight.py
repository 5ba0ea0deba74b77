"""Preflight: slides are planned before any block is predicted, so that errors are shown early."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from noctile.pipeline.plan import TilePlan
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.engines.base import Failure
from noctile.workflows.jobs.messages import Prepared, RunContext
from noctile.workflows.jobs.provenance import planned_flags
from noctile.workflows.jobs.steps import Step
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import SlideFolder

PREFLIGHT_S = 300.0
"""Longest time that a run plans new slides before its first block (s). No work is lost: a slide
that is planned now is not planned again. Only a GPU has nothing to do meanwhile."""


class Preflight:
    """The first minutes of a run: new slides are planned before the first block begins.

    Problems of an archive are thus reported while the user still watches. A slide that hangs holds
    up no other slide.

    Args:
        new: ids of the slides that no run has planned.

    Attributes:
        waiting: ids of the slides that are still to be planned.
        under_way: ids of the slides that are being planned.
    """

    def __init__(self, new: Sequence[str]) -> None:
        self.waiting, self.under_way = deque(new), set[str]()
        self._n, self._until = len(new), time.monotonic() + PREFLIGHT_S
        self._reported = not new
        self._first_with: dict[str, str] = {}  # id of the first slide with a fingerprint
        self._ready = self._failed = self._blank = self._duplicates = 0

    def next_step(self) -> Step | None:
        """Return the next step; None if every slide has been planned or is being planned."""
        if not self.waiting:
            return None
        slide_id = self.waiting.popleft()
        self.under_way.add(slide_id)
        return Step("prepare", slide_id)

    def give_up(self) -> list[str]:
        """Return the slides that are left when the time is over, and forget them."""
        left = list(self.waiting) if time.monotonic() >= self._until else []
        if left:
            self.waiting.clear()
        return left

    def ready(self, slide_id: str, prepared: Prepared) -> list[str]:
        """Count a slide that was planned, and return what the user should know about it."""
        self.under_way.remove(slide_id)
        first = self._first_with.setdefault(prepared.fingerprint, slide_id)
        blank, duplicate = not (prepared.blocks or prepared.finished), first != slide_id
        self._ready += 1
        self._blank += blank
        self._duplicates += duplicate
        notes = ["no tissue"] if blank else []
        return [*notes, f"same content as {first}"] if duplicate else notes

    def failed(self, slide_id: str) -> bool:
        """Count a slide that failed, and tell if the preflight was planning it."""
        mine = slide_id in self.under_way
        self.under_way.discard(slide_id)
        self._failed += mine
        return mine

    def report(self) -> str:
        """Return the counts once, when the preflight has ended; else ""."""
        if self._reported or self.waiting or self.under_way:
            return ""
        self._reported = True
        n = self._ready + self._failed
        later = "; the others are planned in their turn" if n < self._n else ""
        return (
            f"preflight of {n} of {self._n} slides: {self._ready} ready, {self._failed} failed; "
            f"{self._blank} without tissue, {self._duplicates} duplicates{later}"
        )


State = Literal["ready", "done", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class PlannedSlide:
    """Work that a run has to do for one slide.

    Attributes:
        slide_id: id of the slide.
        path: path of its file.
        state: ``ready``; ``done`` by an earlier run; ``failed``: a run would fail it; ``skipped``:
            the preflight was stopped before.
        reason: code of the reason why it failed or was skipped; else "".
        message: text that explains the reason; else "".
        mpp: pixel size of level 0 (um; y, x); None if it is unknown.
        mpp_source: source of the pixel size; None if it is unknown.
        tissue_area_mm2: area of the tissue (mm2); None if it is unknown.
        predictions: number of tiles that pass through the model; None if it is unknown.
        predictions_left: number of tiles that no earlier run has predicted.
        disk_bytes: upper bound of the size of its masks (B).
        task_bytes: upper bound of the memory that a task holds beside the model (B).
        qc_flags: quality flags.
        fingerprint: hash of samples of its file.
        same_file: id of an earlier slide that is the same file under another name; "" if none.
        same_content: id of an earlier slide with the same fingerprint; "" if none.
    """

    slide_id: str
    path: Path
    state: State
    reason: str = ""
    message: str = ""
    mpp: tuple[float, float] | None = None
    mpp_source: str | None = None
    tissue_area_mm2: float | None = None
    predictions: int | None = None
    predictions_left: int = 0
    disk_bytes: int = 0
    task_bytes: int = 0
    qc_flags: tuple[str, ...] = ()
    fingerprint: str = ""
    same_file: str = ""
    same_content: str = ""


class PlanOnly:
    """Policy of ``noctile plan``: a slide ends when it is planned, and nothing is predicted.

    Args:
        context: run that is planned.
        entries: slides that were submitted, by id.

    Attributes:
        entries: slides that were submitted, by id.
        folders: folder that holds the plan of each planned slide, by id.
    """

    def __init__(self, context: RunContext, entries: Mapping[str, SlideEntry]) -> None:
        self._context, self.entries = context, entries
        self._planned: dict[str, PlannedSlide] = {}
        self.folders: dict[str, SlideFolder] = {}

    def add(self, slide_id: str, prepared: Prepared, done: set[tuple[int, int]]) -> str:
        """Remember the plan of a slide, and return a message about it.

        Args:
            slide_id: id of the slide.
            prepared: value of its first step.
            done: (row, col) of the blocks that an earlier run has written.

        Raises:
            StoreError: if its plan cannot be read.
        """
        self.folders[slide_id] = prepared.folder
        slide = self._planned[slide_id] = self._plan(slide_id, prepared, done)
        return f"{slide_id}: {slide.predictions} tiles, {slide.tissue_area_mm2:.2f} mm2 of tissue"

    def _plan(self, slide_id: str, prepared: Prepared, done: set[tuple[int, int]]) -> PlannedSlide:
        described = read_required_json(prepared.folder.plan)
        about, plan = described["slide"], TilePlan.from_json(described["plan"])
        left = (block for block in plan.blocks if block.key not in done)
        return PlannedSlide(
            slide_id,
            self.entries[slide_id].path,
            "done" if prepared.finished else "ready",
            mpp=(about["mpp"][0], about["mpp"][1]),
            mpp_source=about["mpp_source"],
            tissue_area_mm2=described["tissue"]["area_mm2"],
            predictions=plan.predictions,
            predictions_left=0 if prepared.finished else sum(len(block.tiles) for block in left),
            disk_bytes=0 if prepared.finished else plan.disk_bytes,
            task_bytes=plan.peak_bytes(self._context.resources.batch_size or 1),
            qc_flags=tuple(sorted(planned_flags(described))),
            fingerprint=about["fingerprint"],
        )

    def slides(
        self, failures: Mapping[str, Failure], stopped: str | None
    ) -> tuple[PlannedSlide, ...]:
        """Return every slide that was submitted, sorted by id.

        Args:
            failures: failure of each slide that failed, by id.
            stopped: reason why the preflight ended early; None if it did not.
        """
        slides = [
            self._planned.get(slide_id) or self._unplanned(slide_id, failures, stopped)
            for slide_id in sorted(self.entries)
        ]
        first_with: dict[Any, str] = {}
        return tuple(_with_duplicates(slide, first_with) for slide in slides)

    def _unplanned(
        self, slide_id: str, failures: Mapping[str, Failure], stopped: str | None
    ) -> PlannedSlide:
        path, failure = self.entries[slide_id].path, failures.get(slide_id)
        if failure:
            return PlannedSlide(slide_id, path, "failed", failure.reason, failure.message)
        return PlannedSlide(slide_id, path, "skipped", "stopped", stopped or "")


def _with_duplicates(slide: PlannedSlide, first_with: dict[Any, str]) -> PlannedSlide:
    """Return the slide with the id of the first slide that has the same file or content.

    Args:
        slide: slide to complete.
        first_with: id of the first slide with a file or a fingerprint; this slide is added.
    """
    try:
        about = slide.path.stat()
        file: Any = (about.st_dev, about.st_ino)
    except OSError:
        file = ("gone", slide.slide_id)
    content = ("content", slide.fingerprint or slide.slide_id)
    same_file, same_content = (first_with.setdefault(k, slide.slide_id) for k in (file, content))
    return replace(
        slide,
        same_file="" if same_file == slide.slide_id else same_file,
        same_content="" if same_content == slide.slide_id else same_content,
    )
