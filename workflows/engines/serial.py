"""The plain loop: one job after another in this process. Every other engine must equal it."""

from collections.abc import Callable, Iterator
from typing import Any

from noctile.workflows.engines.base import NEVER_STOP, AnyJob, Outcome, StopSignal, attempt


class SerialEngine:
    """The plain loop.

    It cannot interrupt a job. A job that hangs, hangs the run; a job that crashes ends it; memory
    has no budget. Time limits and stop signals act between two jobs.
    """

    slots = 1

    def run(
        self,
        do: Callable[[AnyJob], Any],
        next_job: Callable[[], AnyJob | None],
        stop: StopSignal = NEVER_STOP,
    ) -> Iterator[Outcome]:
        """See `Engine.run`."""
        while not stop.asked() and (job := next_job()) is not None:
            yield attempt(do, job)

    def close(self) -> None:
        """Do nothing: this engine starts no process."""
