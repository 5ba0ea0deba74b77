"""Inference servers: private, ended with their run, and the same masks as without them."""

import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from server_processes import server_pids

from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows import resources
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.inference.server import InferenceServers
from noctile.workflows.jobs.entry import ready_predictor
from noctile.workflows.run import run as segment
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")


def test_another_user_cannot_enter_the_folder_of_the_sockets(servers):
    (address,) = servers.addresses.values()
    assert Path(address).parent.stat().st_mode & 0o777 == 0o700


INTRUDER = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
entered = []
for address in sys.argv[2:]:
    try:
        socket.socket(socket.AF_UNIX).connect(address)
        entered.append(address)
    except OSError:
        pass
for folder in (os.path.dirname(sys.argv[2]), f"/proc/{sys.argv[1]}/fd"):
    try:
        entered += os.listdir(folder)
    except OSError:
        pass
try:
    open(f"/proc/{sys.argv[1]}/mem", "rb")
    entered.append("memory")
except OSError:
    pass
print(entered)
"""


def test_another_user_reaches_neither_socket_nor_memory_of_a_server(servers):
    """Shared buffers have no name: they are reached through the process alone."""
    if os.getuid():
        pytest.skip("only root can start a program as another user")
    ServedPredictor(servers.addresses["0"])
    (pid,) = server_pids()
    words = [sys.executable, "-c", INTRUDER, str(pid), *servers.addresses.values()]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def print_and_load(folder: Path) -> Predictor:
    sys.stdout.write("\x1b[2J\n")
    sys.stdout.flush()
    return load_predictor(folder, "cpu")


def test_a_server_prints_no_escape_sequence(model, capfd):
    with closing(InferenceServers(["0"], partial(print_and_load, model))) as servers:
        ServedPredictor(servers.addresses["0"])
    printed = capfd.readouterr().out
    assert r"\x1b[2J" in printed
    assert "\x1b" not in printed


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
        "from noctile.workflows.inference.client import ServedPredictor\n"
        "from noctile.workflows.inference.server import InferenceServers\n"
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


def served_run(run, stack):
    """As on a machine with a GPU, but that the server computes on the CPU."""
    servers = stack.enter_context(closing(InferenceServers(["0"], partial(ready_predictor, run))))
    return replace(run, servers=servers.addresses)


def masks(repo, model, out) -> dict[str, np.ndarray]:
    slides = [repo / "sample_slides" / f"{name}.svs" for name in ("tumor-nests-20x", "scan-40x")]
    run = run_slides(
        find_slides(slides, None, None).slides,
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
    monkeypatch.setattr(resources, "gpus_of", lambda _device: ("0",))
    monkeypatch.setattr(segment, "with_servers", served_run)
    found = masks(repo, model, tmp_path / "served")
    assert all(
        np.array_equal(found[name], labels) and labels.any() for name, labels in expected.items()
    )
    assert not server_pids()
