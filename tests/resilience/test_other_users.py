"""A run on a machine whose other users prepared its temporary folder."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
from run_programs import Program, World

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")

SETTINGS = """
engine = "dask"
workers = 1
block_px = 480
device = "cpu"
min_free_disk_bytes = 0
"""

NAMES = [
    *("noctile-x", "noctile", "dask-scratch-space", "dask-worker-space", "cluster-x", "gpus-x"),
    *(
        f"dask-scratch-space-{os.getuid()}",
        "pymp-x",
        f"torchinductor_{os.environ.get('USER', 'root')}",
    ),
]
"""Names that a run of Noctile, Dask, Python or torch is known to use, or to begin with."""

KINDS = ["fifo", "device", "link", "folder", "folder of another user", "socket"]


def plant(path: Path, kind: str, victim: Path) -> None:
    """Put something at a path; folders hold a file that would be opened."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    else:
        path.mkdir(mode=0o777)
        path.chmod(0o777)
        os.mkfifo(path / "owner.json")
        for name in ("global.lock", "purge.lock"):
            (path / name).symlink_to("/dev/zero")
        if "another" in kind and not os.getuid():
            os.chown(path, 65534, 65534)


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Kind, owner and time of change of everything in a folder."""
    statuses = {str(p.relative_to(folder)): p.lstat() for p in folder.rglob("*")}
    return {name: (s.st_mode, s.st_uid, s.st_mtime_ns) for name, s in statuses.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World.of(tmp_path_factory.mktemp("world"), {"healthy": 1}, SETTINGS) as world:
        yield world


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_beside_what_another_user_planted(world, tmp_path, kind):
    """It waits for nothing, follows nothing, fills nothing and removes nothing."""
    (victim := tmp_path / "victim").mkdir()
    (victim / "owner.json").write_text("{}")
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        shared = Path(folder)
        shared.chmod(0o1777)
        for name in NAMES:
            plant(shared / name, kind, victim)
        before = state(shared), state(victim)
        words = world.words(tmp_path / "out")
        code, output = Program("noctile", *words, temporary=shared).wait(120)
        assert code == 0, output
        assert (state(shared), state(victim)) == before
