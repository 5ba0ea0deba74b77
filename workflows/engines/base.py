"""What an engine is: it takes jobs as long as there are any, and gives back one `Outcome` for each."""

import errno
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from noctile.pipeline.errors import NoctileError, SlideError, StoreError

TIMEOUT = "timeout"
"""Reason code of a job that ran longer than its limit."""

OUT_OF_MEMORY = "out_of_memory"
"""Reason code of a job that needed more memory than there is, or than its process may use."""

WORKER_DIED = "worker_died"
"""Reason code of a job whose process dies whenever it runs."""

OUTPUT_LOST = "output_lost"
"""Reason code of a job whose results cannot be written for a reason that no slide can help."""

ENGINE_LOST = "engine_lost"
"""Reason code of a job in which nothing can run any more, whatever its slide."""

_OUTPUT_ERRORS = {
    getattr(errno, name)
    for name in (
        "ENOSPC",
        "EDQUOT",
        "EROFS",
        "EIO",
        "ESTALE",
        "ENOTCONN",
        "ENODEV",
        "ENXIO",
        "EHOSTDOWN",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
}
"""Full, read-only or gone: what a file system says when nobody can write to it."""


class EngineLostError(NoctileError):
    """Nothing can run any more: the scheduler has gone, no worker comes back, or none that computes
    on the GPU.
    """


class Job(Protocol):
    """Description of one piece of work: picklable, small, names and numbers, never pixels."""

    @property
    def key(self) -> str:
        """Unique in a run."""
        ...

    @property
    def group(self) -> str:
        """What fails together: once a job of a group has killed its process, its fellows are not
        tried again.
        """
        ...

    @property
    def limit_s(self) -> float:
        """How long it may run (s); ``inf`` for as long as it takes."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)


class StopSignal(Protocol):
    """What stops a run before its end; engines ask it at least once a second while they wait."""

    def asked(self) -> bool:
        """Whether no further job may start."""
        ...

    def over(self) -> bool:
        """Whether what still runs is to be left as it is."""
        ...


class _NeverStop:
    """Stops nothing."""

    def asked(self) -> bool:
        """Never."""
        return False

    def over(self) -> bool:
        """Never."""
        return False


NEVER_STOP: StopSignal = _NeverStop()
"""For runs that go on to their end."""


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

    @property
    def slots(self) -> int:
        """Jobs that can run at once."""
        ...

    def run(
        self,
        do: Callable[[AnyJob], Any],
        next_job: Callable[[], AnyJob | None],
        stop: StopSignal = ...,
    ) -> Iterator[Outcome]:
        """Start jobs and yield their outcomes as they end.

        Args:
            do: does a job and returns its value; picklable.
            next_job: returns the next job whenever one can start; None means that nothing can start
                before another outcome has been consumed. The run is over when it returns None and
                no job is under way.
            stop: ends the run earlier.

        Raises:
            EngineLostError: if nothing can run any more.
        """
        ...

    def close(self) -> None:
        """Stop everything that the engine started, whatever it is doing."""
        ...


def attempt(do: Callable[[AnyJob], Any], job: AnyJob) -> Outcome:
    """Do a job and say how it ended; the one place where any exception becomes a result."""
    start = time.perf_counter()
    try:
        value, failure = do(job), None
    except Exception as error:  # noqa: BLE001 - one slide must never harm the others: whatever it was, it becomes a row
        value, failure = None, _failure(error)
    return Outcome(job.key, value, failure, time.perf_counter() - start)


def _failure(error: Exception) -> Failure:
    message = str(error) if isinstance(error, SlideError) else f"{type(error).__name__}: {error}"
    if isinstance(error, StoreError) and getattr(error.__cause__, "errno", None) in _OUTPUT_ERRORS:
        reason = OUTPUT_LOST
    elif isinstance(error, EngineLostError):
        reason, message = ENGINE_LOST, str(error)
    elif isinstance(error, SlideError):
        reason = error.reason
    else:
        reason = OUT_OF_MEMORY if isinstance(error, MemoryError) else "internal_error"
    return Failure(reason, message, traceback.format_exc())
