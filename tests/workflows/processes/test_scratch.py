"""The scratch folder: private, removed with its process, and with those that were killed."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
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
    folder.chmod(0o1777)
    yield folder
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


def plant(folder: Path, name: str) -> None:
    """Put a file where the owner's identity stands in a folder, as another user could."""
    owner = folder / "owner.json"
    if name == "fifo":
        os.mkfifo(owner)
    elif name == "device":
        owner.symlink_to("/dev/zero")
    elif name == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(owner))
    elif name == "folder":
        owner.mkdir()
    elif name == "large":
        owner.write_bytes(b"{")
        os.truncate(owner, 2**40)


@pytest.mark.parametrize("name", ["fifo", "device", "socket", "folder", "large"])
def test_files_that_another_user_planted_are_neither_waited_for_nor_read(base, name):
    planted = base / "noctile-planted"
    planted.mkdir()
    plant(planted, name)
    with start(base) as process:
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert (planted / "owner.json").lstat()


def abandoned(folder: Path) -> None:
    """Make the folder of a process that has ended."""
    folder.mkdir()
    gone = replace(ProcessIdentity.me(), pid=2**22 + 1)
    (folder / "owner.json").write_text(gone.to_json())


def test_a_link_is_not_followed_to_the_folder_that_it_names(base, tmp_path):
    abandoned(tmp_path / "victim")
    (base / "noctile-link").symlink_to(tmp_path / "victim")
    with start(base):
        pass
    assert (tmp_path / "victim" / "owner.json").exists()


def test_a_folder_of_another_user_stays(base):
    if os.getuid():
        pytest.skip("only root can give a folder to another user")
    for name in ("noctile-mine", "noctile-theirs"):
        abandoned(base / name)
    os.chown(base / "noctile-theirs", 65534, 65534)
    with start(base):
        pass
    assert [path.name for path in base.iterdir()] == ["noctile-theirs"]


def test_a_temporary_folder_in_which_others_can_replace_files_is_refused(base):
    base.chmod(0o777)
    with start(base) as process:
        pass
    assert process.returncode != 0
    assert list(base.iterdir()) == []


def test_a_folder_of_the_login_is_not_used(base, tmp_path, monkeypatch):
    """A system removes it at the end of the login, in the middle of a run."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with start(base) as process:
        assert Path(process.stdout.readline().strip()).parent == base
    assert list(tmp_path.iterdir()) == []
