"""Progress of a run while it goes on, and its result at the end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.engines.base import Failure
from noctile.workflows.results.run_log import RunLog


@dataclass(slots=True)
class Progress:
    """Progress of a run; one object that is updated while the run goes on.

    Attributes:
        slides: number of slides that were submitted.
        done: number of slides that are done, including those of earlier runs.
        failures: failure of each slide that failed, by slide id.
        predictions: number of tiles predicted in this run.
        planned: number of tiles of all slides that have been planned in this run.
        rows: row of the table for each slide that has ended, by slide id.
    """

    slides: int
    done: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    predictions: int = 0
    planned: int = 0
    rows: dict[str, SlideRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of a run.

    Attributes:
        predictions: number of tiles that passed through the model.
        seconds: time from the start of the first job to the end of the last (s).
        gpu_busy: mean share of time in which the GPUs computed, 0..1; None on the CPU, or if the
            driver does not tell.
    """

    predictions: int
    seconds: float
    gpu_busy: float | None

    def __str__(self) -> str:
        """Return one line for a reader."""
        busy = f", GPU busy {self.gpu_busy:.0%}" if self.gpu_busy is not None else ""
        per_s = self.predictions / self.seconds
        return f"{self.predictions} tiles in {self.seconds:.1f} s ({per_s:.3g} tiles/s){busy}"


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run.

    Attributes:
        rows: one row for each slide.
        stopped: reason why the run ended before all slides had; None if it did not.
        pace: speed of the run.
        not_exported: line about each slide that ``export`` could not write; they are done.
    """

    rows: list[SlideRow]
    stopped: str | None
    pace: Pace
    not_exported: tuple[str, ...] = ()

    def count(self, status: str) -> int:
        """Return the number of slides with a status: ``done``, ``failed`` or ``skipped``."""
        return sum(row.status == status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """Exit code of the command.

        0: all slides are done. 1: some failed. 2: none is done. 3: the run was stopped, and the
        same command continues it.
        """
        done = self.count("done")
        if self.stopped:
            return 3
        return 0 if done == len(self.rows) else 1 if done else 2


Observer = Callable[[Progress, str], None]
"""Function called after each outcome with the progress and a message ("" if there is none)."""


class Detail(str):
    """Message that a reader sees only on request: more than one line about a slide."""

    __slots__ = ()


def logged(observe: Observer, log: RunLog) -> Observer:
    """Return an observer that also writes every message to the log of the folder."""

    def observe_and_log(progress: Progress, message: str) -> None:
        if message:
            log.write(message)
        observe(progress, message)

    return observe_and_log
