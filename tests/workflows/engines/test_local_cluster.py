"""The local cluster is private, and leaves nothing behind."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import distributed
import psutil
import pytest

from noctile.testing.engine import Square, play
from noctile.workflows.engines.dask import DaskEngine
from noctile.workflows.processes.scratch import scratch_folder


def listening(pid: int) -> set[int]:
    """TCP ports at which a process waits for connections."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def intrude(user: str, ports: list[int]) -> list[str]:
    """Successful attacks on ports by a program of a user (of this user, if none is named)."""
    uid = os.getuid()
    if user:
        if uid:
            pytest.skip("only root can start a program as another user")
        uid = pwd.getpwnam(user).pw_uid
        folders = Path(distributed.__file__).parents
        if closed := [folder for folder in folders if not folder.stat().st_mode & 0o001]:
            pytest.skip(f"{user} may not read the packages in {closed[0]}")
    program = [
        sys.executable,
        str(Path(__file__).with_name("intruder.py")),
        str(uid),
        str(scratch_folder()),
    ]
    ended = subprocess.run(
        [*program, *map(str, ports)], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_everything_listens_on_this_machine_only(engine):
    addresses = [engine._client.scheduler.address, *engine._client.scheduler_info()["workers"]]
    assert all(a.startswith("tls://127.0.0.1:") for a in addresses)


@pytest.mark.parametrize("user", ["", "nobody"], ids=["same-user", "another-user"])
def test_every_port_refuses_a_peer_without_the_certificate_of_the_run(user):
    """Every process of the run would execute what a peer sends."""
    before = listening(os.getpid())
    with closing(DaskEngine(1)) as engine:
        ports = listening(os.getpid()) - before
        ports |= {port for pid in engine._local.pids().values() for port in listening(pid)}
        assert len(ports) == 3  # scheduler, nanny, worker
        assert intrude(user, sorted(ports)) == []
        assert play(engine, [Square(6)])["square/6"].value == 36


def test_the_intruder_enters_where_no_certificate_is_asked_for(cluster_of_its_own):
    port = int(cluster_of_its_own[0].rpartition(":")[2])
    assert intrude("", [port]) == [f"tcp at {port}", f"client at {port}"]


PRINTS_AN_ESCAPE = """
import sys
from contextlib import closing
from noctile.testing.engine import Square
from noctile.workflows.engines.dask import DaskEngine

def print_escape(_):
    sys.stdout.write("\\x1b[2J\\n")
    sys.stdout.flush()
    return 0

if __name__ == "__main__":
    with closing(DaskEngine(1)) as engine:
        (outcome,) = engine.run(print_escape, iter([Square(1), None, None]).__next__)
    assert outcome.failure is None, outcome
"""


def test_a_worker_prints_no_escape_sequence(tmp_path):
    """In a process of its own: workers have the output of the process that they are forked from."""
    (tmp_path / "program.py").write_text(PRINTS_AN_ESCAPE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert r"\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


def temporary_folder(_: Square) -> str:
    return tempfile.gettempdir()


def test_keys_and_other_temporary_files_lie_in_the_scratch_folder():
    """The next run removes it if this one is killed."""
    before = tempfile.gettempdir()
    with closing(DaskEngine(1)) as engine:
        (outcome,) = engine.run(temporary_folder, iter([Square(1), None, None]).__next__)
        assert outcome.value == tempfile.gettempdir() == str(scratch_folder())
    assert tempfile.gettempdir() == before


def test_closing_leaves_no_process_and_no_folder():
    engine = DaskEngine(1)
    scratch = engine._local._scratch
    pids = engine._client.run(os.getpid)
    assert scratch.exists()
    engine.close()
    assert not scratch.exists()
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
