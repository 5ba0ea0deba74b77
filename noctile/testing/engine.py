"""Contract of `noctile.workflows.engines.base.Engine`, and jobs that tests of engines run.

A subclass of `EngineContract` has a fixture ``engine``::

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self):
            engine = MyEngine()
            yield engine
            engine.close()
"""

import time
from dataclasses import dataclass, field
from math import inf

import numpy as np

from noctile.pipeline.errors import SlideReadError, StoreError
from noctile.workflows.engines.base import NEVER_STOP, Engine, Failure, Outcome, StopSignal


@dataclass(frozen=True)
class Square:
    """A job with the value ``n * n``; each number is a slide of its own.

    Attributes:
        n: the number.
        limit_s: longest time that the job may run (s).
    """

    n: int
    limit_s: float = field(default=inf, kw_only=True)

    @property
    def group(self) -> str:
        """The slide."""
        return f"group/{self.n}"

    @property
    def key(self) -> str:
        """A key of its own for each number."""
        return f"square/{self.n}"

    def work(self) -> object:
        """Return the value of the job."""
        return self.n**2


def do(job: Square) -> object:
    """Do a job: the function that engines are handed."""
    return job.work()


@dataclass(frozen=True)
class Broken(Square):
    """A job that fails with an error that Noctile names."""

    def work(self) -> object:
        """Fail."""
        raise SlideReadError("slide 'x' does not decode")


@dataclass(frozen=True)
class Bug(Square):
    """A job that fails with any other error."""

    def work(self) -> object:
        """Fail."""
        return 1 // 0


@dataclass(frozen=True)
class Full(Square):
    """A job whose results do not fit on the disk."""

    def work(self) -> object:
        """Fail."""
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise StoreError("the mask cannot be written") from error


@dataclass(frozen=True)
class Greedy(Square):
    """A job that asks numpy for more memory than there is."""

    def work(self) -> object:
        """Fail."""
        return np.empty(2**62, np.uint8).size


@dataclass(frozen=True)
class Sleep(Square):
    """A job that takes some time.

    Attributes:
        seconds: the time (s).
    """

    seconds: float = 0.0

    def work(self) -> object:
        """Sleep, then return the number."""
        time.sleep(self.seconds)
        return self.n


class StopAfter:
    """A stop signal for tests.

    Args:
        grace_s: time that running jobs have after `pull` (s).
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s, self.since = grace_s, inf

    def pull(self) -> None:
        """Stop the run from now on."""
        self.since = time.monotonic()

    def asked(self) -> bool:
        """See `StopSignal.asked`."""
        return self.since < inf

    def over(self) -> bool:
        """See `StopSignal.over`."""
        return time.monotonic() - self.since > self.grace_s


def play(engine: Engine, jobs: list[Square], stop: StopSignal = NEVER_STOP) -> dict[str, Outcome]:
    """Run jobs to their end; their outcomes by key, one for each."""
    waiting = list(reversed(jobs))
    outcomes = list(engine.run(do, lambda: waiting.pop() if waiting else None, stop))
    assert len({o.key for o in outcomes}) == len(outcomes)
    return {o.key: o for o in outcomes}


def _failure(engine: Engine, job: Square) -> Failure:
    """The failure of a job that is run alone."""
    failure = play(engine, [job])[job.key].failure
    assert failure is not None
    return failure


class EngineContract:
    """Tests that each engine passes."""

    def test_every_job_has_one_outcome_with_its_value(self, engine: Engine) -> None:
        """Each job gives one outcome, with its value."""
        outcomes = play(engine, [Square(n) for n in range(20)])
        values = {key: outcome.value for key, outcome in outcomes.items()}
        assert values == {f"square/{n}": n * n for n in range(20)}
        assert all(o.failure is None and o.seconds >= 0 for o in outcomes.values())

    def test_no_jobs_no_outcomes(self, engine: Engine) -> None:
        """A run without jobs ends."""
        assert play(engine, []) == {}

    def test_a_named_error_keeps_its_reason_and_harms_no_other_job(self, engine: Engine) -> None:
        """An error of a slide becomes the outcome of its job alone."""
        outcomes = play(engine, [Square(1), Broken(2), Square(3)])
        failure = outcomes["square/2"].failure
        assert failure is not None
        assert (failure.reason, failure.message) == ("unreadable", "slide 'x' does not decode")
        assert "Traceback" in failure.traceback
        assert (outcomes["square/1"].value, outcomes["square/3"].value) == (1, 9)

    def test_a_bug_is_an_internal_error_with_its_name(self, engine: Engine) -> None:
        """Any other error is an internal error."""
        failure = _failure(engine, Bug(0))
        assert failure.reason == "internal_error"
        assert failure.message.startswith("ZeroDivisionError")

    def test_a_full_output_is_told_from_a_slide_that_fails(self, engine: Engine) -> None:
        """A full disk is not the fault of a slide."""
        assert _failure(engine, Full(0)).reason == "output_lost"

    def test_an_allocation_that_fails_is_out_of_memory(self, engine: Engine) -> None:
        """An allocation that fails has its own reason."""
        assert _failure(engine, Greedy(0)).reason == "out_of_memory"

    def test_after_the_stop_signal_no_job_starts_and_running_jobs_end(self, engine: Engine) -> None:
        """A stop signal lets running jobs end."""
        stop = StopAfter(20)
        started = []

        def next_job() -> Sleep:
            started.append(1)
            return Sleep(len(started), seconds=0.2)

        outcomes = []
        for outcome in engine.run(do, next_job, stop):
            outcomes.append(outcome)
            if len(outcomes) == 3:
                stop.pull()
        assert len(outcomes) == len(started) <= 3 + engine.slots
        assert all(o.failure is None for o in outcomes)

    def test_jobs_may_depend_on_outcomes(self, engine: Engine) -> None:
        """A job may become possible only after another outcome was consumed."""
        allowed = [Square(1)]
        seen: list[int] = []
        for outcome in engine.run(do, lambda: allowed.pop() if allowed else None):
            seen.append(outcome.value)
            if len(seen) < 5:
                allowed.append(Square(outcome.value + 1))
        assert seen == [1, 4, 25, 676, 458329]

    def test_an_engine_runs_again_after_a_run(self, engine: Engine) -> None:
        """An engine can run several times."""
        assert play(engine, [Square(2)])["square/2"].value == 4
        assert play(engine, [Square(2)])["square/2"].value == 4
