"""Policy for jobs whose process dies: who is retried, who runs alone, who fails."""

from dataclasses import dataclass
from math import inf

import pytest

from noctile.pipeline.errors import NoctileError
from noctile.workflows.engines.base import Failure, Outcome
from noctile.workflows.engines.supervisor import NO_WORKERS_S, Attempt, Supervisor


@dataclass(frozen=True)
class Step:
    key: str
    group: str = "slide"
    limit_s: float = inf


class Play:
    """A supervisor and what it has started, with jobs from a list."""

    def __init__(self, jobs: list[Step], *, one_job_per_worker: bool = True, slots: int = 2):
        self.supervisor = Supervisor(one_job_per_worker=one_job_per_worker, memory_bytes=10**9)
        self.slots, self.waiting = slots, list(jobs)
        self.running: dict[str, Attempt] = {}
        self.failures: dict[str, str] = {}
        self.done: list[str] = []
        self.idle = False

    def fill(self) -> list[str]:
        take = lambda: self.waiting.pop(0) if self.waiting else None  # noqa: E731
        started, self.idle = self.supervisor.next_attempts(len(self.running), self.slots, take)
        self.running |= {attempt.job.key: attempt for attempt in started}
        return [attempt.job.key for attempt in started]

    def ends(self, key: str, failure: Failure | None = None) -> None:
        self._take(self.supervisor.ended(self.running.pop(key), Outcome(key, 1, failure, 0.5)))

    def dies(self, key: str, killed_for: Failure | None = None) -> None:
        attempt = self.running.pop(key)
        self._take(self.supervisor.died(attempt, 0.5, killed_for=killed_for, crash_dump="stack"))

    def hangs(self, key: str) -> None:
        self._take(self.supervisor.timed_out(self.running.pop(key), 3.0, "stack"))

    def _take(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            assert outcome.key not in {*self.done, *self.failures}
            if outcome.failure:
                self.failures[outcome.key] = outcome.failure.reason
            else:
                self.done.append(outcome.key)


def steps(*keys: str) -> list[Step]:
    """Jobs of different slides."""
    return [Step(key, group=key) for key in keys]


def test_free_slots_are_filled_in_order():
    play = Play(steps("a", "b", "c"))
    assert play.fill() == ["a", "b"]
    assert not play.idle
    play.ends("a")
    assert play.fill() == ["c"]
    play.ends("b")
    assert play.fill() == []
    assert play.idle


def test_the_first_death_is_retried_beside_others_where_a_worker_has_one_job():
    play = Play(steps("a", "b", "c"), one_job_per_worker=True)
    play.fill()
    play.dies("a")
    assert not play.supervisor.has_quarantine
    assert play.fill() == ["a"]
    play.ends("b")
    assert play.fill() == ["c"]


def test_the_first_death_is_quarantined_where_the_job_that_killed_is_not_known():
    play = Play(steps("a", "b", "c"), one_job_per_worker=False)
    play.fill()
    play.dies("a")
    assert play.supervisor.has_quarantine
    assert play.fill() == []
    assert play.failures == {}


def test_a_quarantined_job_waits_until_nothing_runs_and_then_runs_alone():
    play = Play(steps("a", "b", "c", "d"), one_job_per_worker=False)
    play.fill()
    play.dies("a")
    assert play.fill() == []
    play.ends("b")
    assert play.fill() == ["a"]
    assert play.fill() == []
    play.ends("a")
    assert not play.supervisor.has_quarantine
    assert play.fill() == ["c", "d"]
    assert (play.done, play.failures) == (["b", "a"], {})


def test_all_jobs_of_a_dead_process_run_alone_and_only_the_one_that_kills_fails():
    play = Play(steps("a", "b"), one_job_per_worker=False)
    play.fill()
    play.dies("a")
    play.dies("b")
    for _ in range(10):
        for key in play.fill():
            play.dies(key) if key == "b" else play.ends(key)
    assert (play.done, play.failures) == (["a"], {"b": "worker_died"})


def test_the_third_death_fails_the_job_and_keeps_the_crash_dump():
    play = Play(steps("a"))
    for death in (1, 2):
        assert play.fill() == ["a"]
        play.dies("a")
        assert play.failures == {}, death
    assert play.fill() == ["a"]
    (outcome,) = play.supervisor.died(play.running["a"], 0.5, crash_dump="stack")
    assert outcome.failure == Failure(
        "worker_died",
        "the process that did it died 3 times, alone at last (a crash in native code, or killed)",
        "stack",
    )


def test_a_process_killed_for_its_memory_twice_fails_its_job():
    play = Play(steps("a"))
    failure = play.supervisor.memory_failure(2 * 10**9)
    assert failure is not None
    play.fill()
    play.dies("a", killed_for=failure)
    assert play.failures == {}
    play.fill()
    play.dies("a", killed_for=failure)
    assert play.failures == {"a": "out_of_memory"}


def test_a_job_that_fails_after_a_death_takes_its_group_along():
    jobs = [Step("a1", "a"), Step("a2", "a"), Step("b1", "b")]
    play = Play(jobs, one_job_per_worker=False, slots=3)
    play.fill()
    for key in ("b1", "a1", "a2"):
        play.dies(key)
    assert play.fill() == ["a2"]
    play.ends("a2", Failure("unreadable", "x"))
    assert play.failures == {"a2": "unreadable", "a1": "unreadable"}
    assert play.fill() == ["b1"]


def test_a_job_that_fails_without_a_death_takes_nobody_along():
    play = Play([Step("a1", "a"), Step("a2", "a")])
    play.fill()
    play.dies("a1")
    play.ends("a2", Failure("unreadable", "x"))
    assert play.failures == {"a2": "unreadable"}
    assert play.fill() == ["a1"]


def test_a_job_that_hangs_fails_at_once_with_its_group_also_out_of_quarantine():
    jobs = [Step("a1", "a"), Step("a2", "a"), Step("b1", "b")]
    play = Play(jobs, one_job_per_worker=False, slots=3)
    play.fill()
    for key in ("a1", "b1", "a2"):
        play.dies(key)
    assert play.fill() == ["a2"]
    play.hangs("a2")
    assert play.failures == {"a2": "timeout", "a1": "timeout"}
    assert play.fill() == ["b1"]
    play.ends("b1")
    assert not play.supervisor.has_quarantine


@pytest.mark.parametrize(("seconds", "late"), [(1.9, False), (2.0, False), (2.1, True)])
def test_a_job_is_late_after_its_limit(seconds, late):
    assert (
        Supervisor(one_job_per_worker=True).is_late(Attempt(Step("a", limit_s=2)), seconds) is late
    )


@pytest.mark.parametrize(("used", "kills"), [(10**9, False), (10**9 + 1, True)])
def test_a_process_may_hold_its_budget(used, kills):
    failure = Supervisor(one_job_per_worker=True, memory_bytes=10**9).memory_failure(used)
    assert (failure is not None) is kills
    if failure:
        assert "1.00 GB; allow more (--max-memory)" in failure.message


def test_without_a_budget_no_process_holds_too_much():
    assert Supervisor(one_job_per_worker=True).memory_failure(10**15) is None


def test_an_engine_without_workers_for_long_is_lost():
    Supervisor.check_workers(NO_WORKERS_S)
    with pytest.raises(NoctileError, match="no Dask worker for 120 s, and none comes back"):
        Supervisor.check_workers(NO_WORKERS_S + 1)
