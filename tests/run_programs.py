"""Runs as processes of their own, which tests start, watch, kill, and read the results of."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow.parquet as pq
from faulty_slides import plant
from standins import threshold_model

TESTS = Path(__file__).resolve().parent

_MARK = "FAULTY_RUN_MARK"
"""Variable that all processes of a program have in their environment, orphans too."""


class Program:
    """A command in a process of its own, with a temporary folder of its own.

    Args:
        command: arguments after ``python -m``.
        temporary: folder for its temporary files.
        env: further variables of its environment.
    """

    def __init__(self, *command: object, temporary: Path, **env: object) -> None:
        self.temporary = temporary
        self._mark = uuid4().hex
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._output, name = tempfile.mkstemp()  # a file: a full pipe would stop the program
        Path(name).unlink()
        own = {"PYTHONPATH": path, "TMPDIR": str(temporary), _MARK: self._mark}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            env=os.environ | own | {name: str(value) for name, value in env.items()},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the program, also those that it left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mark = process.environ().get(_MARK)
                if mark == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children(self, role: str) -> list[psutil.Process]:
        """Return its processes with a role: ``worker`` or ``forkserver``, which starts workers."""
        return [process for process in self.processes() if _role(process) == role]

    def kill(self, role: str, rng: random.Random) -> bool:
        """Kill -9 the program (``client``) or one of its processes; False if there is none."""
        victims = (
            [self.process.pid] if role == "client" else [child.pid for child in self.children(role)]
        )
        if self.ended or not victims:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(victims), signal.SIGKILL)
        return True

    def listening(self) -> set[tuple[str, int]]:
        """Return (address, port) of everything on which it waits for connections."""
        found = set()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections(kind="inet")
                found |= {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}
        return found

    def wait(self, timeout_s: float = 120) -> tuple[int, str]:
        """Wait for its end, and return its exit code and output."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            for process in self.processes():
                process.kill()
            self.process.wait()
            raise AssertionError(
                f"the program has not ended after {timeout_s:.0f} s: {self._read()}"
            ) from None
        return code, self._read()

    def _read(self) -> str:
        return os.pread(self._output, 2**24, 0).decode()

    def left_over(self, within_s: float = 15.0) -> list[str]:
        """Return command lines of processes that are still there ``within_s`` after its end."""
        deadline = time.monotonic() + within_s
        while alive := self.processes():
            if time.monotonic() > deadline:
                return [" ".join(p.cmdline()) for p in alive]
            time.sleep(0.1)
        return []


@dataclass(frozen=True)
class World:
    """Slides, a model and settings for runs, and a folder for temporary files.

    Attributes:
        folder: folder with ``slides/``, ``slides/manifest.csv``, ``model/`` and ``run.toml``.
        temporary: folder for temporary files; its path is short, as sockets need it.
    """

    folder: Path
    temporary: Path

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path, counts: dict[str, int], settings: str) -> Iterator["World"]:
        """Make a world with ``counts`` slides of each kind."""
        (folder / "slides").mkdir()
        plant(folder / "slides", counts)
        threshold_model(folder / "model")
        (folder / "run.toml").write_text(settings)
        with tempfile.TemporaryDirectory(prefix="run-") as temporary:
            yield cls(folder, Path(temporary))

    @property
    def manifest(self) -> Path:
        return self.folder / "slides" / "manifest.csv"

    def words(self, out: Path, *more: object) -> list[str]:
        """Return the arguments of a run in this world."""
        given = {"--manifest": self.manifest, "--out": out, "--model": self.folder / "model"}
        given["--config"] = self.folder / "run.toml"
        return [str(word) for word in ("run", *(w for pair in given.items() for w in pair), *more)]

    def start(self, out: Path, *more: object, **env: object) -> Program:
        """Start a run in which renames take time, so that tests can disturb it."""
        return Program(
            "faulty_run", *self.words(out, *more), temporary=self.temporary, **SLOWLY | env
        )

    def left_in_temporary(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir()]


SLOWLY = {"FAULTY_RUN_RENAME_S": 0.02}


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition has not become true"
        time.sleep(0.02)


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    """Assert that two results of `contents` are equal."""
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def mounted(folder: Path, size: str) -> bool:
    """Mount a disk of a size; False if this process may not. The caller must unmount it."""
    folder.mkdir(exist_ok=True)
    return (
        os.geteuid() == 0
        and os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null") == 0
    )


def resize(folder: Path, size: str) -> None:
    """Change the size of a disk that `mounted` made."""
    assert os.system(f"mount -o remount,size={size} {folder}") == 0


def is_open(port: int) -> bool:
    """True if a process accepts connections at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _role(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        words = process.cmdline()
        if any("resource_tracker" in word for word in words):
            return "tracker"
        if any(
            "multiprocessing.forkserver" in word for word in words
        ):  # a forked worker has its words too
            parent = process.parent()
            forked = parent is not None and any(
                "multiprocessing.forkserver" in word for word in parent.cmdline()
            )
            return "worker" if forked else "forkserver"
    return "other"


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of the slides that are done, by path."""
    rows = pq.read_table(out / "slides.parquet").to_pylist()
    done = {row["slide_id"] for row in rows if row["status"] == "done"}
    return {
        str(p.relative_to(out)): p.read_bytes()
        for slide_id in sorted(done)
        for p in sorted((out / "slides" / slide_id).rglob("*"))
        if p.is_file()
    }


def outcomes(out: Path) -> dict[str, tuple[str, str]]:
    """Return status and reason code of each slide."""
    rows = pq.read_table(out / "slides.parquet").to_pylist()
    return {row["slide_id"]: (row["status"], row["reason"] or "") for row in rows}


def events(out: Path, kind: str) -> int:
    """Return the number of events of a kind in the ledger."""
    return (
        sum(line["event"] == kind for line in ledger(out)) if (out / "ledger.jsonl").exists() else 0
    )


def ledger(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of the ledger."""
    for line in (out / "ledger.jsonl").read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
