"""One job after another in this process: what every other engine must equal."""

from collections.abc import Callable, Iterator

from workflows.engines.base import Job, Outcome, attempt


class SerialEngine:
    """The plain loop."""

    def run(self, next_job: Callable[[], Job | None]) -> Iterator[Outcome]:
        """See `Engine.run`."""
        while (job := next_job()) is not None:
            yield attempt(job)

    def close(self) -> None:
        """Nothing was started."""
