"""Errors become outcomes: reason codes of a failure."""

import errno

import pytest

from noctile.pipeline.errors import SlideOpenError, StorageError, StoreError
from noctile.testing.engine import Square
from noctile.workflows.engines.base import NEVER_STOP, EngineLostError, attempt


def store_error(number: int) -> StoreError:
    error = StoreError("the mask cannot be written")
    error.__cause__ = OSError(number, "")
    return error


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (SlideOpenError("a.svs: no slide"), "unopenable", "a.svs: no slide"),
        (store_error(errno.ENOSPC), "output_lost", "the mask cannot be written"),
        (store_error(errno.EACCES), "output_lost", "the mask cannot be written"),
        (StoreError("a shard is damaged"), "store", "a shard is damaged"),
        (OSError(errno.EIO, "no"), "output_lost", "OSError: [Errno 5] no"),
        (StorageError("a.svs: no answer"), "storage", "a.svs: no answer"),
        (EngineLostError("the server has gone"), "engine_lost", "the server has gone"),
        (MemoryError("too much"), "out_of_memory", "MemoryError: too much"),
        (KeyError("x"), "internal_error", "KeyError: 'x'"),
    ],
)
def test_an_error_becomes_a_failure_with_its_reason(error, reason, message):
    def fail(_: Square) -> None:
        raise error

    outcome = attempt(fail, Square(1))
    assert outcome.value is None
    assert outcome.failure is not None
    assert (outcome.key, outcome.failure.reason) == ("square/1", reason)
    assert outcome.failure.message == message
    assert "Traceback" in outcome.failure.traceback


def test_a_failure_holds_no_escape_sequence_and_one_line_of_message():
    def fail(_: Square) -> None:
        raise SlideOpenError("a.svs\x1b[2J\nb: done " + "m" * 300_000)

    failure = attempt(fail, Square(1)).failure
    assert failure is not None
    assert failure.message.startswith(r"a.svs\x1b[2J\nb: done")
    assert len(failure.message) < 3000
    assert failure.traceback.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (StorageError("a.svs: no answer"), True),
        (store_error(errno.EIO), True),
        (store_error(errno.EACCES), True),
        (OSError(errno.ESTALE, ""), True),
        (store_error(errno.ENOSPC), False),
        (store_error(errno.EROFS), False),
        (StoreError("a shard is damaged"), False),
        (FileNotFoundError(errno.ENOENT, ""), False),
        (EngineLostError("the server has gone"), False),
    ],
)
def test_an_error_of_a_disk_that_may_answer_later_is_passing(error, passing):
    def fail(_: Square) -> None:
        raise error

    failure = attempt(fail, Square(1)).failure
    assert failure is not None
    assert failure.passing == passing


def test_a_value_is_handed_over_with_its_time():
    outcome = attempt(lambda job: job.n, Square(7))
    assert (outcome.value, outcome.failure) == (7, None)
    assert outcome.seconds >= 0


def test_an_interrupt_is_no_outcome():
    def interrupted(_: Square) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, Square(1))


def test_a_run_that_is_not_stopped_goes_on():
    assert not NEVER_STOP.asked()
    assert not NEVER_STOP.over()
