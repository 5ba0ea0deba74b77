"""What an engine is: it takes jobs as long as there are any, and gives back one `Outcome` for each."""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.errors import SlideError


class Job(Protocol):
    """Something to do, picklable and small: names and numbers, never pixels."""

    @property
    def key(self) -> str:
        """Unique in a run."""
        ...

    def __call__(self) -> Any:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a reason code, one line for people, and the traceback."""

    reason: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a value, or with a failure.

    Attributes:
        key: the job's.
        value: what it returned.
        failure: why it did not, or None.
        seconds: how long it took where it ran.
    """

    key: str
    value: Any
    failure: Failure | None
    seconds: float


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(self, next_job: Callable[[], Job | None]) -> Iterator[Outcome]:
        """Start jobs and yield their outcomes as they end.

        ``next_job`` is asked whenever there is room; None means that nothing can start before another outcome has been
        consumed. The run is over when nothing is under way and ``next_job`` returns None.
        """
        ...

    def close(self) -> None:
        """Stop everything that the engine started."""
        ...


def attempt(job: Job) -> Outcome:
    """Do a job and say how it ended; the one place where any exception becomes a result."""
    start = time.perf_counter()
    try:
        value, failure = job(), None
    except Exception as error:  # noqa: BLE001 - one slide must never harm the others: whatever it was, it becomes a row
        reason = error.reason if isinstance(error, SlideError) else "internal_error"
        message = str(error) if isinstance(error, SlideError) else f"{type(error).__name__}: {error}"
        value, failure = None, Failure(reason, message, traceback.format_exc())
    return Outcome(job.key, value, failure, time.perf_counter() - start)
