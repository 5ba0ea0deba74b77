"""Engines: an engine takes jobs while there are any and returns one `Outcome` for each."""

import errno
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from noctile.pipeline.errors import NoctileError, SlideError, StorageError, StoreError, UsageError
from noctile.pipeline.slides.storage import STORAGE_ERRORS
from noctile.pipeline.untrusted import printable, printable_lines

TIMEOUT = "timeout"
"""Reason code of a job that ran longer than its limit."""

OUT_OF_MEMORY = "out_of_memory"
"""Reason code of a job that needed more memory than there is, or than its process may use."""

WORKER_DIED = "worker_died"
"""Reason code of a job whose process dies whenever it runs."""

OUTPUT_LOST = "output_lost"
"""Reason code of a job whose results cannot be written, through no fault of its slide."""

ENGINE_LOST = "engine_lost"
"""Reason code of a job that found that no job can run any more."""

USAGE = "usage"
"""Reason code of a job that found that no job of this call can be done: its model is broken, or its
device has gone. No slide fails by it, and the call ends."""

PASSING_ERRORS = STORAGE_ERRORS | {errno.EACCES, errno.EPERM, errno.EBUSY}
"""Errors of a file system that may be gone a little later."""

_LASTING_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a file system that is full or read-only."""


class EngineLostError(NoctileError):
    """No job can run any more: the scheduler, all workers or the inference server have gone."""


class Job(Protocol):
    """Description of one piece of work: picklable, small, names and numbers, never pixels."""

    @property
    def key(self) -> str:
        """Name of the job, unique in a run."""
        ...

    @property
    def group(self) -> str:
        """Name of the jobs that fail together, those of a slide.

        When a job of a group has killed its process and failed, the jobs of its group that wait for
        another attempt fail too.
        """
        ...

    @property
    def limit_s(self) -> float:
        """Longest time that the job may run (s); ``inf`` for no limit."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)


class StopSignal(Protocol):
    """Stops a run before its end; engines call it at least once a second while they wait."""

    def asked(self) -> bool:
        """Return True if no further job may start."""
        ...

    def over(self) -> bool:
        """Return True if running jobs are to be abandoned."""
        ...


class _NeverStop:
    """A stop signal that never stops a run."""

    def asked(self) -> bool:
        """Return False."""
        return False

    def over(self) -> bool:
        """Return False."""
        return False


NEVER_STOP: StopSignal = _NeverStop()
"""Stop signal of runs that go on to their end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a job failed.

    Attributes:
        reason: reason code.
        message: one printable line for the user.
        traceback: Python's traceback, or the stacks of a process that died.
        passing: True if the same job may succeed a little later, because a disk or a network
            answered with an error.
    """

    reason: str
    message: str
    traceback: str = ""
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job: a value or a failure.

    Attributes:
        key: key of the job.
        value: value that the job returned; None if it failed.
        failure: the reason why it failed, or None.
        seconds: time that the job ran (s).
    """

    key: str
    value: Any
    failure: Failure | None
    seconds: float


class Engine(Protocol):
    """Runs jobs, in this process or in others."""

    @property
    def slots(self) -> int:
        """Number of jobs that can run at once."""
        ...

    def run(
        self,
        do: Callable[[AnyJob], Any],
        next_job: Callable[[], AnyJob | None],
        stop: StopSignal = ...,
    ) -> Iterator[Outcome]:
        """Start jobs and yield their outcomes as they end.

        Args:
            do: function that does a job and returns its value; picklable.
            next_job: function that returns the next job; the engine calls it when a job can start.
                None means that no job can start before another outcome has been consumed. The run
                ends when it returns None and no job runs.
            stop: signal that ends the run earlier.

        Raises:
            EngineLostError: if no job can run any more.
        """
        ...

    def close(self) -> None:
        """Stop everything that the engine started, whatever it is doing."""
        ...


def attempt(do: Callable[[AnyJob], Any], job: AnyJob) -> Outcome:
    """Do a job and return its outcome. The one place where any exception becomes a result."""
    start = time.perf_counter()
    try:
        value, failure = do(job), None
    except Exception as error:  # noqa: BLE001 - one slide must never harm the others
        value, failure = None, _failure(error)
    return Outcome(job.key, value, failure, time.perf_counter() - start)


def _failure(error: Exception) -> Failure:
    message = str(error) if isinstance(error, SlideError) else f"{type(error).__name__}: {error}"
    number = _file_error(error)
    passing = isinstance(error, StorageError) or number in PASSING_ERRORS
    if number in PASSING_ERRORS | _LASTING_ERRORS:
        reason = OUTPUT_LOST
    elif isinstance(error, EngineLostError):
        reason, message = ENGINE_LOST, str(error)
    elif isinstance(error, UsageError):
        reason, message = USAGE, str(error)
    elif isinstance(error, SlideError):
        reason = error.reason
    else:
        reason = OUT_OF_MEMORY if isinstance(error, MemoryError) else "internal_error"
    trace = printable_lines(traceback.format_exc())
    return Failure(reason, printable(message), trace, passing)


def _file_error(error: Exception) -> int | None:
    """Error number of the file system, unless the error belongs to a slide's own files."""
    cause = error.__cause__ if isinstance(error, StoreError) else error
    return cause.errno if isinstance(cause, OSError) else None
