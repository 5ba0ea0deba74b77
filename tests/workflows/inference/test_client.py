"""The worker's side: the same answers, whatever becomes of the server."""

import os
import signal
import sys
import threading
import time
from contextlib import closing
from functools import partial

import numpy as np
import pytest
from server_processes import server_pids

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.load import load_predictor
from noctile.workflows.engines.base import ENGINE_LOST, EngineLostError, attempt
from noctile.workflows.inference import client, watch
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.inference.server import InferenceServers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")


def tile(predict, value: int = 90) -> np.ndarray:
    side = predict.card.tile_px
    return np.full((1, side, side, 3), value, np.uint8)


def test_a_batch_may_be_larger_than_the_last(servers, model):
    predict, alone = ServedPredictor(servers.addresses["0"]), load_predictor(model, "cpu")
    side = predict.card.tile_px
    tiles = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    for n in (1, 5, 2):
        assert np.array_equal(predict(tiles[:n]), alone(tiles[:n]))


def test_an_answer_is_not_changed_by_the_next(servers):
    predict = ServedPredictor(servers.addresses["0"])
    first = predict(tile(predict, 0))
    kept = first.copy()
    assert not np.array_equal(predict(tile(predict, 200)), first)
    assert np.array_equal(first, kept)


def test_the_batch_of_a_dead_server_is_sent_to_the_next_one(servers):
    predict = ServedPredictor(servers.addresses["0"])
    before = predict(tile(predict))
    (pid,) = server_pids()
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(predict(tile(predict)), before)
    assert server_pids() != {pid}


def test_the_death_of_a_server_is_noticed_while_a_batch_waits(servers):
    predict = ServedPredictor(servers.addresses["0"])
    expected = predict(tile(predict))
    (pid,) = server_pids()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert np.array_equal(predict(tile(predict)), expected)


@pytest.fixture
def short_watch(monkeypatch):
    """Servers whose hanging is found within a second or two."""
    monkeypatch.setattr(watch, "_INTERVAL_S", 0.2)
    monkeypatch.setattr(watch, "_SILENT_S", 2.0)
    monkeypatch.setattr(watch, "_BATCH_S", 2.0)


@pytest.mark.timeout(120)
def test_a_server_that_is_stopped_and_stays_so_is_replaced(short_watch, servers):
    predict = ServedPredictor(servers.addresses["0"])
    expected = predict(tile(predict))
    time.sleep(10 * watch._INTERVAL_S)  # the watch has seen that the model is loaded
    (pid,) = server_pids()
    os.kill(pid, signal.SIGSTOP)
    assert np.array_equal(predict(tile(predict)), expected)
    assert server_pids() != {pid}


def load_with_a_trap(folder, trap):
    """A model that computes without end where a file stands, once."""
    predict = load_predictor(folder, "cpu")

    class Trapped:
        card, batch_size = predict.card, predict.batch_size

        def __call__(self, tiles):
            if trap.exists():
                trap.unlink()
                threading.Event().wait()
            return predict(tiles)

    return Trapped()


@pytest.mark.timeout(120)
def test_a_server_with_a_batch_that_does_not_end_is_replaced(short_watch, model, tmp_path):
    """Its other threads still answer, pings too."""
    trap = tmp_path / "trap"
    with closing(InferenceServers(["0"], partial(load_with_a_trap, model, trap))) as servers:
        predict = ServedPredictor(servers.addresses["0"])
        expected = predict(tile(predict))
        (pid,) = server_pids()
        trap.touch()
        assert np.array_equal(predict(tile(predict)), expected)
        assert server_pids() != {pid}


def test_an_engine_without_a_server_is_lost(servers, monkeypatch):
    predict = ServedPredictor(servers.addresses["0"])
    monkeypatch.setattr(client, "_START_S", 0.2)
    servers.close()
    with pytest.raises(EngineLostError):
        predict(tile(predict))


def test_a_model_that_cannot_be_loaded_is_an_error_in_the_worker(tmp_path):
    with closing(
        InferenceServers(["0"], partial(load_predictor, tmp_path / "none", "cpu"))
    ) as servers:
        for _ in range(2):
            with pytest.raises(ModelError, match="none"):
                ServedPredictor(servers.addresses["0"])


def test_a_job_without_a_server_is_not_the_fault_of_its_slide(model, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "_START_S", 0.1)

    class Job:
        key, group, limit_s = "a", "a", 1.0

    outcome = attempt(lambda job: ServedPredictor(str(tmp_path / "no-socket")), Job())
    assert outcome.failure
    assert outcome.failure.reason == ENGINE_LOST
