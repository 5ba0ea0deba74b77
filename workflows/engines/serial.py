"""One job after another in this process: what every other engine must equal."""

from collections.abc import Callable, Iterator

from noctile.workflows.engines.base import NEVER_STOP, Job, Outcome, StopSignal, attempt


class SerialEngine:
    """The plain loop.

    It cannot interrupt a job: one that hangs, hangs the run, one that crashes ends it, and its
    memory has no budget. Time limits and brakes act between two jobs.
    """

    slots = 1

    def run(
        self, next_job: Callable[[], Job | None], brake: StopSignal = NEVER_STOP
    ) -> Iterator[Outcome]:
        """See `Engine.run`."""
        while not brake.asked() and (job := next_job()) is not None:
            yield attempt(job)

    def close(self) -> None:
        """Nothing was started."""
