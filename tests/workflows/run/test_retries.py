"""Steps that met passing errors: further attempts, pauses, and the slides beside them."""

from types import SimpleNamespace

import pytest

from noctile.testing.engine import StopAfter
from noctile.workflows.engines.base import NEVER_STOP
from noctile.workflows.jobs.steps import Step
from noctile.workflows.run import retries as module
from noctile.workflows.run.retries import Retries

A, B = Step("prepare", "a"), Step("segment", "b", (0, 1))


@pytest.fixture
def clock(monkeypatch):
    """Clock that moves during pauses only."""
    now = [0.0]
    sleep = lambda s: now.__setitem__(0, now[0] + s)  # noqa: E731
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def test_a_step_is_tried_again_three_times_after_longer_and_longer_pauses(clock):
    retries, pauses = Retries(), []
    while retries.again(A):
        assert retries.next_step() is None
        before = clock[0]
        assert retries.wait(NEVER_STOP) == A
        pauses.append(clock[0] - before)
    assert pauses == pytest.approx([2, 8, 20], abs=module._CHECK_S)
    assert retries.next_step() is None


@pytest.mark.usefixtures("clock")
def test_a_step_that_ended_well_begins_with_all_its_attempts():
    retries = Retries()
    for _ in range(10):
        assert retries.again(A)
        retries.wait(NEVER_STOP)
        retries.ended_well(A)


@pytest.mark.usefixtures("clock")
def test_a_stop_ends_the_pause():
    retries, stop = Retries(), StopAfter(0)
    retries.again(A)
    stop.pull()
    assert retries.wait(stop) is None


@pytest.mark.usefixtures("clock")
def test_nothing_is_waited_for_where_no_step_waits():
    assert Retries().wait(NEVER_STOP) is None


def test_slides_with_errors_since_the_first_error_of_a_step_stand_beside_it(clock):
    retries = Retries()
    retries.again(B)
    clock[0] = 50
    retries.again(A)
    assert retries.troubled_beside(A) == set()
    assert retries.troubled_beside(B) == {"a"}
    clock[0] = 60
    retries.again(B)
    assert retries.troubled_beside(A) == {"b"}
    retries.ended_well(B)
    assert retries.troubled_beside(A) == set()
