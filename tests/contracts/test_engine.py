"""What every engine does, whatever runs underneath."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import SlideReadError, UsageError
from workflows.engines.base import Engine, Outcome
from workflows.engines.dask import DaskEngine
from workflows.engines.serial import SerialEngine


@dataclass(frozen=True)
class Square:
    n: int

    @property
    def key(self) -> str:
        return f"square/{self.n}"

    def __call__(self) -> int:
        return self.n**2


@dataclass(frozen=True)
class Broken(Square):
    def __call__(self) -> int:
        raise SlideReadError("slide 'x' does not decode")


@dataclass(frozen=True)
class Bug(Square):
    def __call__(self) -> int:
        return 1 // 0


@dataclass(frozen=True)
class Crash(Square):
    def __call__(self) -> int:
        os._exit(11)


@dataclass(frozen=True)
class Variable(Square):
    name: str = ""

    def __call__(self) -> str:
        time.sleep(0.05)  # long enough that every worker gets some
        return os.environ.get(self.name, "")


def play(engine: Engine, jobs: list[Square]) -> dict[str, Outcome]:
    waiting = list(reversed(jobs))
    outcomes = list(engine.run(lambda: waiting.pop() if waiting else None))
    assert len({o.key for o in outcomes}) == len(outcomes)
    return {o.key: o for o in outcomes}


class EngineContract:
    def test_every_job_has_one_outcome_with_its_value(self, engine):
        outcomes = play(engine, [Square(n) for n in range(20)])
        assert {k: o.value for k, o in outcomes.items()} == {f"square/{n}": n * n for n in range(20)}
        assert all(o.failure is None and o.seconds >= 0 for o in outcomes.values())

    def test_no_jobs_no_outcomes(self, engine):
        assert play(engine, []) == {}

    def test_a_named_error_keeps_its_reason_and_harms_nobody(self, engine):
        outcomes = play(engine, [Square(1), Broken(2), Square(3)])
        failure = outcomes["square/2"].failure
        assert failure is not None
        assert (failure.reason, failure.message) == ("unreadable", "slide 'x' does not decode")
        assert "Traceback" in failure.traceback
        assert (outcomes["square/1"].value, outcomes["square/3"].value) == (1, 9)

    def test_a_bug_is_called_internal_and_named(self, engine):
        failure = play(engine, [Bug(0)])["square/0"].failure
        assert failure is not None
        assert failure.reason == "internal_error"
        assert failure.message.startswith("ZeroDivisionError")

    def test_jobs_may_depend_on_outcomes(self, engine):
        """A job that can start only after another one's outcome was consumed is asked for again."""
        allowed = [Square(1)]
        seen = []
        for outcome in engine.run(lambda: allowed.pop() if allowed else None):
            seen.append(outcome.value)
            if len(seen) < 5:
                allowed.append(Square(outcome.value + 1))
        assert seen == [1, 4, 25, 676, 458329]

    def test_it_runs_again_after_a_run(self, engine):
        assert play(engine, [Square(2)])["square/2"].value == 4
        assert play(engine, [Square(2)])["square/2"].value == 4


class TestSerialEngine(EngineContract):
    @pytest.fixture
    def engine(self):
        return SerialEngine()


@pytest.fixture(scope="module")
def cluster():
    engine = DaskEngine(2, env={"OMP_NUM_THREADS": "1"})
    yield engine
    engine.close()


class TestDaskEngine(EngineContract):
    @pytest.fixture
    def engine(self, cluster):
        return cluster

    def test_a_worker_that_dies_fails_its_job_and_no_other(self, engine):
        jobs = [Crash(n) if n in (2, 9) else Variable(n, "PATH") for n in range(16)]
        outcomes = play(engine, jobs)
        failures = {key: o.failure.reason for key, o in outcomes.items() if o.failure}
        assert failures == {"square/2": "worker_died", "square/9": "worker_died"}
        assert len(outcomes) == 16

    def test_workers_get_their_threads(self, engine):
        assert play(engine, [Variable(1, "OMP_NUM_THREADS")])["square/1"].value == "1"

    def test_each_worker_sees_one_gpu_of_its_own(self):
        engine = DaskEngine(2, gpus=("0", "3"))
        seen = {o.value for o in play(engine, [Variable(n, "CUDA_VISIBLE_DEVICES") for n in range(20)]).values()}
        engine.close()
        assert seen == {"0", "3"}

    def test_everything_listens_on_this_machine_only(self, engine):
        addresses = [engine._client.scheduler.address, *engine._client.scheduler_info()["workers"]]
        assert all(a.startswith("tcp://127.0.0.1:") for a in addresses)

    def test_a_running_scheduler_is_used(self, cluster):
        guest = DaskEngine(7, scheduler=cluster._client.scheduler.address)
        assert guest.slots == 2
        assert play(guest, [Square(6)])["square/6"].value == 36
        guest.close()
        assert play(cluster, [Square(6)])["square/6"].value == 36


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("workflows.engines.dask._START_TIMEOUT_S", 1)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9"):
        DaskEngine(1, scheduler="tcp://127.0.0.1:9")


def test_closing_leaves_no_process_and_no_folder():
    engine = DaskEngine(1)
    scratch = Path(engine._scratch.name)
    pids = engine._client.run(os.getpid)
    assert scratch.exists()
    engine.close()
    assert not scratch.exists()
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
