"""Workers that ask another process: the same masks, whatever becomes of that process."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.engines.base import ENGINE_LOST, EngineLostError, attempt
from noctile.workflows.inference import server as inference
from noctile.workflows.inference.server import InferenceServers, ServedPredictor
from noctile.workflows.jobs.entry import ready_predictor
from noctile.workflows.processes.preload import is_served
from noctile.workflows.run import run as segment
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")


@pytest.fixture
def servers(model):
    with closing(InferenceServers(["0"], partial(load_predictor, model, "cpu"))) as servers:
        yield servers


def server_pids() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


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


def test_another_user_cannot_enter_the_folder_of_the_sockets(servers):
    (address,) = servers.addresses.values()
    assert Path(address).parent.stat().st_mode & 0o777 == 0o700


def test_a_server_that_dies_is_replaced_and_asked_again(servers):
    predict = ServedPredictor(servers.addresses["0"])
    before = predict(tile(predict))
    (pid,) = server_pids()
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(predict(tile(predict)), before)
    assert server_pids() != {pid}


def test_its_death_while_somebody_waits_is_noticed(servers):
    predict = ServedPredictor(servers.addresses["0"])
    expected = predict(tile(predict))
    (pid,) = server_pids()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert np.array_equal(predict(tile(predict)), expected)


def test_where_none_comes_back_the_engine_is_lost(servers, monkeypatch):
    predict = ServedPredictor(servers.addresses["0"])
    monkeypatch.setattr(inference, "_START_S", 0.2)
    servers.close()
    with pytest.raises(EngineLostError):
        predict(tile(predict))


def test_a_model_that_cannot_be_loaded_is_the_workers_error(tmp_path):
    with closing(
        InferenceServers(["0"], partial(load_predictor, tmp_path / "none", "cpu"))
    ) as servers:
        for _ in range(2):
            with pytest.raises(ModelError, match="none"):
                ServedPredictor(servers.addresses["0"])


def test_servers_end_with_the_run(servers):
    ServedPredictor(servers.addresses["0"])
    assert server_pids()
    servers.close()
    until = time.monotonic() + 5
    while server_pids() and time.monotonic() < until:
        time.sleep(0.05)
    assert not server_pids()


@pytest.mark.parametrize("begun", ["there", "being started"])
def test_no_server_outlives_a_run_that_is_killed(model, tmp_path, begun):
    program = tmp_path / "night.py"
    program.write_text(
        "import sys, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from noctile.pipeline.models.load import load_predictor\n"
        "from noctile.workflows.inference.server import InferenceServers, ServedPredictor\n"
        'if __name__ == "__main__":\n'
        '    servers = InferenceServers(["0"], partial(load_predictor, Path(sys.argv[1]), "cpu"))\n'
        f'    {begun == "there"} and ServedPredictor(servers.addresses["0"])\n'
        '    print(servers._processes["0"].pid, flush=True)\n'
        "    time.sleep(60)\n",
        encoding="utf-8",
    )
    night = subprocess.Popen([sys.executable, program, model], stdout=subprocess.PIPE, text=True)
    assert night.stdout
    with night.stdout:
        server = psutil.Process(int(night.stdout.readline()))
    night.kill()
    night.wait()
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running()


def test_a_job_without_a_server_is_no_slides_fault(model, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "_START_S", 0.1)

    class Job:
        key, group, limit_s = "a", "a", 1.0

    outcome = attempt(lambda job: ServedPredictor(str(tmp_path / "nobody")), Job())
    assert outcome.failure
    assert outcome.failure.reason == ENGINE_LOST


@pytest.mark.parametrize(
    ("changed", "served"),
    [
        ({}, True),
        ({"engine": "serial"}, False),
        ({"scheduler": "tcp://10.0.0.1:8786"}, False),
        ({"window": "blend"}, False),
    ],
)
def test_who_is_served(repo, model, changed, served):
    shipped = repo / "pipeline" / "models" / "zoo" / "tumor"
    assert is_served(RunSettings(**changed), "cuda", shipped) is served
    assert not is_served(RunSettings(**changed), "cpu", shipped)
    assert not is_served(RunSettings(**changed), "cuda", model)  # it has no network


def served_run(run, stack):
    """As on a machine with a GPU, but that the server computes on the CPU."""
    servers = stack.enter_context(closing(InferenceServers(["0"], partial(ready_predictor, run))))
    return replace(run, servers=servers.addresses)


def masks(repo, model, out) -> dict[str, np.ndarray]:
    slides = [repo / "sample_slides" / f"{name}.svs" for name in ("tumor-nests-20x", "scan-40x")]
    run = run_slides(
        find_slides(slides, None, None),
        RunSettings(model=str(model), device="cpu"),
        out,
        lambda *_: None,
    )
    assert run.exit_code == 0
    return {
        s.stem: MaskStore.open(out / "slides" / s.stem / "mask.ome.zarr").read_level(0)
        for s in slides
    }


def test_a_run_with_servers_has_the_same_masks(repo, model, tmp_path, monkeypatch):
    expected = masks(repo, model, tmp_path / "alone")
    monkeypatch.setattr(segment, "gpus_of", lambda _device: ("0",))
    monkeypatch.setattr(segment, "with_servers", served_run)
    found = masks(repo, model, tmp_path / "served")
    assert all(
        np.array_equal(found[name], labels) and labels.any() for name, labels in expected.items()
    )
    assert not server_pids()
