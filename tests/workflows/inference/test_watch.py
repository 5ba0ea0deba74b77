"""Watch over a server: silence and a batch without an end are found, slowness is not."""

from contextlib import closing
from multiprocessing.connection import Listener

import pytest

from noctile.workflows.inference import watch
from noctile.workflows.inference.watch import PING, Unfinished, Watch


@pytest.fixture
def server(tmp_path):
    """A socket at which the test plays the server, and the watch over it."""
    address = str(tmp_path / "socket")
    with Listener(address, "AF_UNIX") as listener, closing(Watch(address)) as over:
        yield listener, over


def times(seconds: float) -> int:
    """Number of calls of a watch in so many seconds."""
    return int(seconds / watch._INTERVAL_S)


def greeted(server):
    listener, over = server
    assert not over.hangs()
    connection = listener.accept()
    connection.send("the model is loaded")
    assert not over.hangs()
    return connection, over


def answered(connection, over, oldest) -> bool:
    """Answer one ping, and return True if the server is found to hang."""
    assert connection.recv() == PING
    connection.send(oldest)
    return over.hangs()


def test_a_server_may_load_its_model_for_half_an_hour(server):
    _, over = server
    assert not any(over.hangs() for _ in range(times(watch._START_S) - 1))
    assert over.hangs()


def test_a_server_that_answers_no_ping_hangs_after_two_minutes(server):
    connection, over = greeted(server)
    found = [over.hangs() for _ in range(times(watch._SILENT_S) + 1)]
    assert found.index(True) >= times(watch._SILENT_S) - 2
    connection.close()


def test_a_batch_that_does_not_end_hangs_although_pings_are_answered(server):
    connection, over = greeted(server)
    found = [answered(connection, over, 5) for _ in range(times(watch._BATCH_S) + 1)]
    assert found.index(True) == times(watch._BATCH_S)
    connection.close()


def test_a_server_that_is_slow_or_idle_does_not_hang(server):
    connection, over = greeted(server)
    slow = times(watch._BATCH_S) - 1
    oldest = [number for number in (1, 2, None) for _ in range(slow)]
    assert not any(answered(connection, over, number) for number in oldest)
    assert not any(answered(connection, over, None) for _ in range(2 * slow))
    connection.close()


def test_a_server_that_has_ended_does_not_hang(server):
    connection, over = greeted(server)
    connection.close()
    assert not any(over.hangs() for _ in range(3))


def test_the_oldest_batch_that_has_not_ended_is_known():
    batches = Unfinished()
    assert batches.oldest() is None
    with batches.one_more():
        with batches.one_more():
            assert batches.oldest() == 0
        assert batches.oldest() == 0
    with batches.one_more():
        assert batches.oldest() == 2
    assert batches.oldest() is None
