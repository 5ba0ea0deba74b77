"""One job after another in this process: what every other engine must equal."""

from collections.abc import Callable, Iterator
from typing import Any

from noctile.workflows.engines.base import NEVER_STOP, AnyJob, Outcome, StopSignal, attempt


class SerialEngine:
    """The plain loop.

    It cannot interrupt a job: one that hangs, hangs the run, one that crashes ends it, and its
    memory has no budget. Time limits and stop signals act between two jobs.
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
        """Nothing was started."""
