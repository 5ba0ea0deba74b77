"""Policy for jobs whose process dies, runs too long or takes too much memory.

It is pure: no Dask, no clock, no process.

A process may die by chance, and on a shared scheduler it is not known which of several jobs killed
it. These rules make a crash fail its own slide and no other::

    first death      retried beside other jobs; on a shared scheduler: quarantined
    second death     quarantined: the job runs alone, as soon as nothing else runs
    third death      failed

    over its memory  counts as a death; after an earlier death: failed at once
    too long         failed at once

When a job fails after a death, the waiting jobs of its group (its slide) fail with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from noctile.workflows.engines.base import (
    OUT_OF_MEMORY,
    TIMEOUT,
    WORKER_DIED,
    EngineLostError,
    Failure,
    Job,
    Outcome,
)

MOST_DEATHS = 3
"""Number of deaths of its process after which a job fails. The last death happened while the job
ran alone. Fewer deaths can be chance: the kernel may kill another process when memory is short."""

NO_WORKERS_S = 120.0
"""Time without any worker after which the engine is lost (s); a new worker takes seconds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to run a job.

    Attributes:
        job: the job.
        deaths: number of processes that died earlier while this job ran in them.
    """

    job: Job
    deaths: int = 0


class Supervisor:
    """Decides which job runs next, and whether a job whose process died is tried again.

    Args:
        one_job_per_worker: True if each worker runs one job at a time, so that the job of a dead
            worker is known.
        memory_bytes: most memory that a worker process may hold (B).
    """

    def __init__(self, *, one_job_per_worker: bool, memory_bytes: float = inf) -> None:
        self._one_job_per_worker, self._memory_bytes = one_job_per_worker, memory_bytes
        self._retries: list[Attempt] = []
        self._quarantine: list[Attempt] = []

    @property
    def has_quarantine(self) -> bool:
        """True if jobs wait to run alone; no other job starts before they have."""
        return bool(self._quarantine)

    def next_attempts(
        self, running: int, slots: int, next_job: Callable[[], Job | None]
    ) -> tuple[list[Attempt], bool]:
        """Choose what to start.

        No job waits at a worker behind another one. So the running time of a job contains no
        waiting, and a crash is not put down to a job that only waited.

        Args:
            running: number of jobs that run.
            slots: number of jobs that can run at once.
            next_job: source of new jobs; None means that no job can start now.

        Returns:
            The attempts to start, and whether a slot stays empty because there is no job for it.
        """
        if self._quarantine:
            return ([] if running else [self._quarantine[-1]]), False
        chosen: list[Attempt] = []
        while running + len(chosen) < slots:
            if self._retries:
                chosen.append(self._retries.pop(0))
            elif (job := next_job()) is None:
                return chosen, True
            else:
                chosen.append(Attempt(job))
        return chosen, False

    def ended(self, attempt: Attempt, outcome: Outcome) -> list[Outcome]:
        """Take the outcome of an attempt whose process lives.

        Returns:
            The outcome, and those of jobs that fail with it.
        """
        self._leave_quarantine(attempt)
        fails = outcome.failure if attempt.deaths else None
        return [outcome, *(self._fail_group(attempt.job.group, fails) if fails else ())]

    def died(
        self,
        attempt: Attempt,
        seconds: float,
        *,
        killed_for: Failure | None = None,
        crash_dump: str = "",
    ) -> list[Outcome]:
        """Take note that the process of an attempt died.

        Args:
            attempt: the attempt.
            seconds: time that the job ran (s).
            killed_for: failure for which the engine itself killed the process; None for a crash.
            crash_dump: stacks that the process wrote when it died.

        Returns:
            Outcomes of the jobs that fail; none while the job is tried again.
        """
        self._leave_quarantine(attempt)
        deaths = attempt.deaths + 1
        failure = self._failure_after(deaths, killed_for, crash_dump)
        if failure is None:
            beside_others = self._one_job_per_worker and deaths == 1
            waiting = self._retries if beside_others else self._quarantine
            waiting.append(Attempt(attempt.job, deaths))
            return []
        outcome = Outcome(attempt.job.key, None, failure, seconds)
        return [outcome, *self._fail_group(attempt.job.group, failure)]

    def is_late(self, attempt: Attempt, seconds: float) -> bool:
        """Compare the time that a job has run (s) with its limit."""
        return seconds > attempt.job.limit_s

    def timed_out(self, attempt: Attempt, seconds: float, crash_dump: str = "") -> list[Outcome]:
        """Fail a job whose process was killed because it ran too long, and its group.

        Returns:
            The outcomes, that of the job first.
        """
        self._leave_quarantine(attempt)
        message = (
            f"still running after {seconds:.0f} s, which was all the time it had left "
            "(--slide-timeout); its process was killed"
        )
        failure = Failure(TIMEOUT, message, crash_dump)
        outcome = Outcome(attempt.job.key, None, failure, seconds)
        return [outcome, *self._fail_group(attempt.job.group, failure)]

    def memory_failure(self, used_bytes: int) -> Failure | None:
        """Failure of the jobs of a process that holds too much memory; None within the budget.

        Args:
            used_bytes: memory that the process holds (B).
        """
        if used_bytes <= self._memory_bytes:
            return None
        message = (
            f"its process held {used_bytes / 1e9:.2f} GB, more than the budget of "
            f"{self._memory_bytes / 1e9:.2f} GB; allow more (--max-memory), take fewer --workers "
            "or a smaller block_px"
        )
        return Failure(OUT_OF_MEMORY, message)

    @staticmethod
    def check_workers(seconds_without: float) -> None:
        """Check that workers come back.

        Args:
            seconds_without: time since there was a worker (s).

        Raises:
            EngineLostError: if there has been none for `NO_WORKERS_S`.
        """
        if seconds_without > NO_WORKERS_S:
            message = f"no Dask worker for {NO_WORKERS_S:.0f} s, and none comes back"
            raise EngineLostError(message)

    def _failure_after(
        self, deaths: int, killed_for: Failure | None, crash_dump: str
    ) -> Failure | None:
        """Failure of a job after so many deaths; None while it is tried again."""
        if killed_for and deaths > 1:
            return killed_for
        if deaths < MOST_DEATHS:
            return None
        message = (
            f"the process that did it died {deaths} times, alone at last (a crash in native code, "
            "or killed)"
        )
        return Failure(WORKER_DIED, message, crash_dump)

    def _leave_quarantine(self, attempt: Attempt) -> None:
        self._quarantine = [one for one in self._quarantine if one.job is not attempt.job]

    def _fail_group(self, group: str, failure: Failure) -> list[Outcome]:
        waiting = [*self._retries, *self._quarantine]
        self._retries = [one for one in self._retries if one.job.group != group]
        self._quarantine = [one for one in self._quarantine if one.job.group != group]
        return [
            Outcome(one.job.key, None, failure, 0.0) for one in waiting if one.job.group == group
        ]
