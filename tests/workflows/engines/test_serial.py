"""The plain loop (its contract is tested in tests/contracts)."""

from noctile.testing.engine import Square, StopAfter, do
from noctile.workflows.engines.serial import SerialEngine


def test_jobs_run_in_order_and_only_when_their_outcome_is_wanted():
    started = []

    def next_job():
        started.append(len(started))
        return Square(started[-1]) if len(started) < 4 else None

    run = SerialEngine().run(do, next_job)
    assert started == []
    assert next(run).key == "square/0"
    assert started == [0]
    assert [outcome.value for outcome in run] == [1, 4]


def test_a_stop_signal_acts_between_two_jobs():
    stop = StopAfter(0.0)
    run = SerialEngine().run(do, lambda: Square(3), stop)
    assert next(run).value == 9
    stop.pull()
    assert list(run) == []
