"""The scratch folder: private, removed with its process, and with those that were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noctile.workflows.processes.identity import ProcessIdentity

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")

PROGRAM = """
import sys, time
from noctile.workflows.processes.scratch import scratch_folder
print(scratch_folder(), flush=True)
assert scratch_folder() is scratch_folder()
if len(sys.argv) > 1: time.sleep(30)
"""


def start(base: Path, *words: str) -> subprocess.Popen:
    env = os.environ | {"TMPDIR": str(base)}
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


@pytest.fixture
def base(tmp_path_factory):
    """A temporary folder with a short path, as sockets need."""
    folder = Path("/tmp") / f"scratch-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    for path in folder.rglob("*"):
        assert path.is_file() or path.is_dir()
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_it_is_private_and_gone_after_the_process(base):
    with start(base, "wait") as process:
        folder = Path(process.stdout.readline().strip())
        assert folder.parent == base
        assert folder.stat().st_mode & 0o777 == 0o700
        process.terminate()
    with start(base) as process:
        folder = Path(process.stdout.readline().strip())
    assert process.returncode == 0
    assert not folder.exists()


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(base):
    with start(base, "wait") as process:
        killed = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert killed.exists()
    with start(base):
        pass
    assert not killed.exists()


def test_folders_of_living_processes_and_of_other_programs_stay(base):
    (base / "noctile-of-somebody").mkdir()
    (base / "noctile-alive").mkdir()
    (base / "noctile-alive" / "owner.json").write_text(ProcessIdentity.me().to_json())
    with start(base):
        pass
    assert sorted(path.name for path in base.iterdir()) == ["noctile-alive", "noctile-of-somebody"]


def test_where_temporary_folders_have_long_paths_a_short_one_is_used(tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    with start(long) as process:
        folder = Path(process.stdout.readline().strip())
    assert folder.parent == Path("/tmp")
