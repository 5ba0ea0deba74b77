"""Dask workers that crash, hang, take too much memory, or are killed."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import psutil
import pytest

from noctile.pipeline.errors import SlideReadError, UsageError
from noctile.testing.engine import Sleep, Square, StopAfter, do, play
from noctile.workflows.engines import local_cluster
from noctile.workflows.engines.base import EngineLostError
from noctile.workflows.engines.dask import DaskEngine


@dataclass(frozen=True)
class Crash(Square):
    def work(self) -> object:
        os._exit(11)


@dataclass(frozen=True)
class Hang(Square):
    """Waits in C code for ever; with the interpreter's lock held, where ``deaf`` says so."""

    deaf: bool = False

    def work(self) -> object:
        library = ctypes.PyDLL(None) if self.deaf else ctypes.CDLL(None)
        return int(library.pause())


@dataclass(frozen=True)
class Unpicklable(Square):
    """Object that can be pickled but not unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


@dataclass(frozen=True)
class Segfault(Square):
    def work(self) -> object:
        return int(ctypes.string_at(0)[0])


@dataclass(frozen=True)
class Hog(Square):
    """Takes memory until it is stopped."""

    def work(self) -> object:
        held = []
        while True:
            held.append(np.ones(1 << 24, np.uint8))
            time.sleep(0.01)


@dataclass(frozen=True)
class KilledOnce(Square):
    """Its process is killed from outside the first time."""

    mark: str = ""

    def work(self) -> object:
        path = Path(self.mark)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.n


@dataclass(frozen=True)
class DiesThenHangs(Square):
    """Its process is killed the first time; the second time it hangs, and lets the file `mark` say
    so."""

    mark: str = ""

    def work(self) -> object:
        died = Path(f"{self.mark}.died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        Path(self.mark).touch()
        return int(ctypes.CDLL(None).pause())


@dataclass(frozen=True)
class Await(Square):
    """Ends when a file is there, or with an error after 30 s."""

    mark: str = ""

    def work(self) -> object:
        deadline = time.monotonic() + 30
        while not Path(self.mark).exists():
            if time.monotonic() > deadline:
                raise SlideReadError(f"{self.mark} was not written")
            time.sleep(0.05)
        return self.n


@dataclass(frozen=True)
class Variable(Square):
    name: str = ""

    def work(self) -> object:
        time.sleep(0.05)  # long enough that every worker gets some
        return os.environ.get(self.name, "")


class TestWorkers:
    def test_a_worker_that_dies_fails_its_job_and_no_other(self, engine):
        jobs = [Crash(n) if n in (2, 9) else Variable(n, "PATH") for n in range(16)]
        outcomes = play(engine, jobs)
        failures = {key: o.failure.reason for key, o in outcomes.items() if o.failure}
        assert failures == {"square/2": "worker_died", "square/9": "worker_died"}
        assert len(outcomes) == 16

    def test_a_crash_in_c_code_leaves_a_traceback(self, engine):
        failure = play(engine, [Segfault(1), Square(2)])["square/1"].failure
        assert failure is not None
        assert failure.reason == "worker_died"
        assert "Segmentation fault" in failure.traceback
        assert "string_at" in failure.traceback

    @pytest.mark.parametrize("deaf", [False, True])
    def test_a_job_that_hangs_is_killed_at_its_limit_while_the_others_go_on(self, engine, deaf):
        start = time.monotonic()
        outcomes = play(
            engine,
            [Hang(0, limit_s=2.0, deaf=deaf), *(Sleep(n, seconds=0.1) for n in range(1, 21))],
        )
        assert time.monotonic() - start < 30
        assert {key: o.failure.reason for key, o in outcomes.items() if o.failure} == {
            "square/0": "timeout"
        }
        assert 2.0 <= outcomes["square/0"].seconds < 10
        assert "in work" in outcomes["square/0"].failure.traceback
        assert len(outcomes) == 21

    def test_a_worker_that_hangs_with_its_first_job_is_killed(self, monkeypatch):
        """It is given the job before its nanny knows where it is, and never lets go of the
        interpreter."""
        engine = DaskEngine(1)
        monkeypatch.setattr(
            "distributed.nanny.WorkerProcess._init_msg_interval", 5.0
        )  # it looks that often
        for pid in engine._local.pids().values():
            os.kill(pid, signal.SIGKILL)
        outcomes = play(engine, [Hang(0, limit_s=2.0, deaf=True), Square(3)])
        engine.close()
        assert {key: o.failure.reason for key, o in outcomes.items() if o.failure} == {
            "square/0": "timeout"
        }
        assert outcomes["square/3"].value == 9

    def test_a_process_killed_once_from_outside_costs_no_job(self, engine, tmp_path):
        jobs = [KilledOnce(0, mark=str(tmp_path / "mark")), *map(Square, range(1, 8))]
        assert {o.value for o in play(engine, jobs).values()} == {0, *(n * n for n in range(1, 8))}

    def test_who_is_tried_again_holds_up_nobody(self, engine, tmp_path):
        """The second job ends only if the first is tried again beside it; that one hangs then, and
        the others go on."""
        mark = str(tmp_path / "mark")
        jobs = [
            DiesThenHangs(0, mark=mark, limit_s=10.0),
            Await(1, mark=mark),
            *(Sleep(n, seconds=0.1) for n in (2, 3)),
        ]
        start, ended = time.monotonic(), {}
        waiting = iter(jobs)
        for outcome in engine.run(do, lambda: next(waiting, None)):
            ended[outcome.key] = (outcome, time.monotonic() - start)
        assert {key: o.failure.reason for key, (o, _) in ended.items() if o.failure} == {
            "square/0": "timeout"
        }
        assert (
            max(seconds for key, (_, seconds) in ended.items() if key != "square/0")
            < ended["square/0"][1]
        )

    def test_a_worker_that_was_killed_is_replaced(self, engine):
        play(engine, [Crash(0)])
        deadline = time.monotonic() + 30
        while engine.slots < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert engine.slots == 2

    def test_no_job_waits_behind_another_while_a_worker_is_free(self, engine):
        start = time.monotonic()
        outcomes = play(
            engine, [Sleep(0, seconds=3.0), *(Sleep(n, seconds=0.02) for n in range(1, 50))]
        )
        assert len(outcomes) == 50
        assert time.monotonic() - start < 6

    def test_over_the_stop_signal_what_runs_is_left_and_its_process_goes(self):
        engine = DaskEngine(1)
        stop = StopAfter(0.5)
        jobs = [Hang(0), Square(1)]
        stop.pull()
        stop.since = inf
        run = engine.run(do, lambda: stop.pull() or jobs.pop(0), stop)
        assert list(run) == []
        pids = list(engine._local.pids().values())
        start = time.monotonic()
        engine.close()
        assert time.monotonic() - start < 10
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_the_hungry_one_fails_alone(self):
        engine = DaskEngine(2, memory_bytes=500 * 2**20)
        outcomes = play(engine, [Hog(3) if n == 3 else Sleep(n, seconds=0.1) for n in range(12)])
        engine.close()
        assert {key: o.failure.reason for key, o in outcomes.items() if o.failure} == {
            "square/3": "out_of_memory"
        }
        assert "budget of 0.52 GB" in outcomes["square/3"].failure.message

    def test_workers_get_their_threads(self, engine):
        assert play(engine, [Variable(1, "OMP_NUM_THREADS")])["square/1"].value == "1"

    def test_each_worker_sees_one_gpu_of_its_own(self):
        engine = DaskEngine(2, gpus=("0", "3"))
        seen = {
            o.value
            for o in play(engine, [Variable(n, "CUDA_VISIBLE_DEVICES") for n in range(20)]).values()
        }
        engine.close()
        assert seen == {"0", "3"}

    def test_a_running_scheduler_is_used(self, cluster_of_its_own):
        address, _ = cluster_of_its_own
        for n in (6, 7):
            guest = DaskEngine(7, scheduler=address)
            assert guest.slots == 1
            assert play(guest, [Square(n)])[f"square/{n}"].value == n * n
            guest.close()


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("noctile.workflows.engines.dask._START_TIMEOUT_S", 1)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9"):
        DaskEngine(1, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise ModuleNotFoundError('no such module')", "lacks Noctile .no such module."),
        ("__version__ = '0.0.1'", "has Noctile 0.0.1, and this is Noctile"),
    ],
)
def test_a_foreign_cluster_without_this_version_of_noctile_is_refused_before_the_first_job(
    cluster_with, source, found
):
    address = cluster_with(source)
    with pytest.raises(UsageError, match=f"{found}.*install Noctile .* start them again"):
        DaskEngine(1, scheduler=address)


def test_an_error_of_dask_is_no_failure_of_a_slide(engine):
    """A job that no worker can unpickle."""
    outcomes = play(engine, [Unpicklable(1), Square(2)])
    failure = outcomes["square/1"].failure
    assert failure is not None
    assert failure.reason == "engine_lost"
    assert "same environment" in failure.message
    assert outcomes["square/2"].value == 4


def test_a_worker_that_is_killed_while_it_starts_costs_nothing_but_another_start(monkeypatch):
    start, fates = (
        local_cluster.SpecCluster,
        ["killed", "killed", "alive", "killed", "killed", "killed"],
    )

    def unlucky(**options):
        if fates.pop(0) == "killed":
            raise RuntimeError("Nanny failed to start.")
        return start(**options)

    monkeypatch.setattr(local_cluster, "SpecCluster", unlucky)
    engine = DaskEngine(1)
    assert play(engine, [Square(2)])["square/2"].value == 4
    engine.close()
    with pytest.raises(
        UsageError, match="the local cluster does not answer or has no workers: Nanny failed"
    ):
        DaskEngine(1)


def test_each_worker_begins_in_a_thread_of_its_own_and_works_although_that_fails(tmp_path):
    engine = DaskEngine(2, begin=partial(_say_who_and_fail_late, tmp_path))
    assert play(engine, [Square(2)])["square/2"].value == 4
    pids = set(engine._local.pids().values())
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    engine.close()
    assert {int(path.name) for path in tmp_path.iterdir()} == pids


def _say_who_and_fail_late(folder: Path) -> None:
    time.sleep(0.5)
    (folder / str(os.getpid())).touch()
    raise RuntimeError("this is ignored")


def test_a_scheduler_that_goes_away_ends_the_run_with_a_name(cluster_of_its_own, monkeypatch):
    monkeypatch.setattr("noctile.workflows.engines.dask._START_TIMEOUT_S", 5)
    address, process = cluster_of_its_own
    engine = DaskEngine(1, scheduler=address)
    jobs = [Square(1), Sleep(2, seconds=60), Sleep(3, seconds=60)]
    run = engine.run(do, lambda: jobs.pop(0) if jobs else None)
    next(run)
    process.kill()
    with pytest.raises(EngineLostError):
        next(run)
    engine.close()


def test_a_hang_on_a_foreign_cluster_fails_and_its_worker_is_replaced(cluster_of_its_own):
    engine = DaskEngine(1, scheduler=cluster_of_its_own[0])
    outcomes = play(engine, [Hang(0, limit_s=2.0), Square(3)])
    engine.close()
    assert outcomes["square/0"].failure.reason == "timeout"
    assert outcomes["square/3"].value == 9
