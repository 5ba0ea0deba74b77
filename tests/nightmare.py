"""A night in which things go wrong: planted faults, programs that are killed, disks that are full.

``python -m nightmare run ...`` is ``noctile run ...`` with steps that fail as their slide's name
says. The environment may ask for more: with ``NIGHTMARE_SIMULATED`` steps do nothing;
``NIGHTMARE_RENAME_S`` is how long every file takes to get its name (s), as on a busy network
folder, so that kills meet files half written; the file ``NIGHTMARE_LOG`` gets a line for every
block that is begun.
"""

import contextlib
import ctypes
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

import numpy as np
import psutil
import pyarrow.parquet as pq
import tifffile
from PIL import Image
from standins import small_slide, threshold_model

import noctile.workflows.run.loop
from noctile.workflows.jobs.entry import do
from noctile.workflows.jobs.messages import Prepared, StepJob
from noctile.workflows.results.files import write_json

TESTS = Path(__file__).resolve().parent
VOLATILE = {
    "run.json",
    "ledger.jsonl",
    "slides.csv",
}  # times, host and pid; the table stands in the parquet file too


def do_with_faults(job: StepJob) -> Any:
    """Do a step with the fault that the first word of its slide's name names.

    ``stuck`` hangs at once, the others at a block.
    """
    if job.step.kind == "segment":
        if log := os.environ.get("NIGHTMARE_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{job.step.key}\n")
        _FAULTS.get(job.step.slide_id.partition("-")[0], lambda _: None)(job)
    elif job.step.slide_id.startswith("stuck-"):
        _hang(job)
    return do(job)


def simulate(job: StepJob) -> Any:
    """Write what a step leaves, without its work."""
    slide_id = job.step.slide_id
    key = job.run.slide_key(slide_id, "", None)
    if job.step.kind == "prepare":
        return Prepared(key, True, False, ((0, 0), (0, 1)), (9, 9), slide_id)
    if job.step.kind == "segment":
        write_json(job.run.results.staged(slide_id).block_stats(job.step.block), {})
        return 9
    figures = {
        "tumor_area_mm2": 0.25,
        "tissue_area_mm2": 1.0,
        "flags": [],
        "versions": {"numpy": "2"},
    }
    write_json(
        job.run.results.slide(slide_id).summary, {"key": key, "fingerprint": slide_id, **figures}
    )
    return None


def _hang(_: StepJob) -> None:
    ctypes.CDLL(None).pause()


def _hang_deaf(_: StepJob) -> None:
    ctypes.PyDLL(None).pause()  # holds the interpreter's lock


def _segfault(_: StepJob) -> None:
    ctypes.string_at(0)


def _hog(_: StepJob) -> None:
    held = []
    while True:
        held.append(np.ones(1 << 24, np.uint8))
        time.sleep(0.01)


def _vanish(job: StepJob) -> None:
    job.entry.path.unlink(missing_ok=True)


_FAULTS = {"hang": _hang, "deaf": _hang_deaf, "segfault": _segfault, "hog": _hog, "vanish": _vanish}

EXPECTED = {
    "healthy": ("done", {""}),
    "truncated": ("failed", {"unopenable", "unreadable", "unreadable_tissue"}),
    "flipped": (
        "",
        {"", "unopenable", "unreadable", "unreadable_tissue"},
    ),  # done or failed, as the bits fell
    "companion": ("failed", {"unopenable"}),
    "nompp": ("failed", {"mpp_missing"}),
    "hang": ("failed", {"timeout"}),
    "deaf": ("failed", {"timeout"}),
    "segfault": ("failed", {"worker_died"}),
    "hog": ("failed", {"out_of_memory"}),
    "vanish": ("failed", {"unopenable", "unreadable"}),
    "blank": ("done", {""}),
    "dark": ("done", {""}),
}
"""What must become of a slide by the first word of its name: status, and which reasons are true."""


def plant(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write so many slides of each kind, and a manifest that names them; returns the manifest."""
    rng = random.Random(seed)
    rows = []
    for kind, count in counts.items():
        for n in range(count):
            name = f"{kind}-{n}"
            path = folder / f"{name}{'.mrxs' if kind == 'companion' else '.tif'}"
            _PLANT.get(kind, _healthy)(path, rng.randrange(10**6))
            rows.append(f"{name},{path}")
    rng.shuffle(rows)
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(["slide_id,path", *rows]) + "\n")
    return manifest


def _healthy(path: Path, seed: int) -> None:
    """One with tissue: of some seeds comes none."""
    while not path.exists() or tifffile.imread(path, key=1).mean() > 235:
        small_slide(path, seed=seed, height=700 + seed % 300, width=900)
        seed += 1


def _truncated(path: Path, seed: int) -> None:
    _healthy(path, seed)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])


def _flipped(path: Path, seed: int) -> None:
    """One bit in a hundred bytes of the pixels is wrong."""
    _healthy(path, seed)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        start, stop = min(page.dataoffsets), max(np.add(page.dataoffsets, page.databytecounts))
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    where = rng.integers(start + (stop - start) // 2, stop, (stop - start) // 200)
    data[where] ^= (1 << rng.integers(0, 8, where.size)).astype(np.uint8)
    path.write_bytes(data.tobytes())


def _companion(path: Path, seed: int) -> None:
    Image.new("RGB", (64, 64), (200, seed % 256, 200)).save(path, format="JPEG")


def _nompp(path: Path, seed: int) -> None:
    small_slide(path, seed=seed, height=700, width=900, mpp=None)


def _blank(path: Path, seed: int) -> None:
    small_slide(path, seed=None, height=700, width=900)


def _dark(path: Path, seed: int) -> None:
    """Fluorescence: spots on black."""
    rng = np.random.default_rng(seed)
    pixels = (rng.random((700, 900, 3)) * 12).astype(np.uint8)
    for y, x in rng.integers(50, 650, (40, 2)):
        pixels[y - 20 : y + 20, x - 20 : x + 20, 1] = 180
    mpp = (20_000, 20_000)
    tifffile.imwrite(
        path,
        pixels,
        tile=(128, 128),
        photometric="rgb",
        resolution=mpp,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


_PLANT = {
    "truncated": _truncated,
    "flipped": _flipped,
    "companion": _companion,
    "nompp": _nompp,
    "blank": _blank,
    "dark": _dark,
}


class Program:
    """``noctile run`` in a process of its own, with a temporary folder of its own.

    Args:
        command: words after ``python -m``.
        temporary: where it makes temporary files.
        env: more of its environment.
    """

    def __init__(self, *command: object, temporary: Path, **env: object) -> None:
        self.temporary = temporary
        self._mark = f"NIGHTMARE={uuid4().hex}"  # which all its processes have in their environment, orphans too
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._said, name = tempfile.mkstemp()  # not a pipe: one that nobody reads would stop it
        Path(name).unlink()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            env=os.environ
            | {
                "PYTHONPATH": path,
                "TMPDIR": str(temporary),
                "NIGHTMARE": self._mark.partition("=")[2],
            }
            | {name: str(value) for name, value in env.items()},
            stdout=self._said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """All that it consists of, or that it left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mark = process.environ().get("NIGHTMARE")
                if (
                    mark == self._mark.partition("=")[2]
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def children(self, role: str) -> list[psutil.Process]:
        """Its workers, or the process that they are forked from."""
        return [process for process in self.processes() if _role(process) == role]

    def kill(self, role: str, rng: random.Random) -> bool:
        """Kill -9 the program itself (``client``), or one of its processes. Whether there was one."""
        victims = (
            [self.process.pid] if role == "client" else [child.pid for child in self.children(role)]
        )
        if self.ended or not victims:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(victims), signal.SIGKILL)
        return True

    def listening(self) -> set[tuple[str, int]]:
        """Address and port of all on which it waits for connections."""
        places = set()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections(kind="inet")
                places |= {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}
        return places

    def wait(self, timeout_s: float = 120) -> tuple[int, str]:
        """Exit code and what it said."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            for process in self.processes():
                process.kill()
            self.process.wait()
            raise AssertionError(
                f"it has not ended after {timeout_s:.0f} s: {self._read()}"
            ) from None
        return code, self._read()

    def _read(self) -> str:
        return os.pread(self._said, 2**24, 0).decode()

    def left_over(self, within_s: float = 15.0) -> list[str]:
        """Processes of it that are still there some time after it has ended."""
        deadline = time.monotonic() + within_s
        while alive := self.processes():
            if time.monotonic() > deadline:
                return [" ".join(p.cmdline()) for p in alive]
            time.sleep(0.1)
        return []


@dataclass(frozen=True)
class World:
    """Slides, a model, settings, and where programs that use them make temporary files.

    Attributes:
        folder: ``slides/`` with ``manifest.csv``, ``model/``, ``run.toml``.
        temporary: short, for sockets have short names.
    """

    folder: Path
    temporary: Path

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path, counts: dict[str, int], settings: str) -> Iterator["World"]:
        """A new world, with so many slides of each kind."""
        (folder / "slides").mkdir()
        plant(folder / "slides", counts)
        threshold_model(folder / "model")
        (folder / "run.toml").write_text(settings)
        with tempfile.TemporaryDirectory(prefix="night-") as temporary:
            yield cls(folder, Path(temporary))

    @property
    def manifest(self) -> Path:
        return self.folder / "slides" / "manifest.csv"

    def words(self, out: Path, *more: object) -> list[str]:
        """The command line of a run in this world."""
        given = {"--manifest": self.manifest, "--out": out, "--model": self.folder / "model"}
        given["--config"] = self.folder / "run.toml"
        return [str(word) for word in ("run", *(w for pair in given.items() for w in pair), *more)]

    def start(self, out: Path, *more: object, **env: object) -> Program:
        """Start a run, in which files take their time, so that there is something to disturb."""
        return Program(
            "nightmare", *self.words(out, *more), temporary=self.temporary, **SLOWLY | env
        )

    def left_in_temporary(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir()]


SLOWLY = {"NIGHTMARE_RENAME_S": 0.02}


def wait_for(what: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    """Compare what `contents` gave."""
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def mounted(folder: Path, size: str) -> bool:
    """Whether this process may mount a disk of its own; then there is one of that size, to be
    unmounted again."""
    folder.mkdir(exist_ok=True)
    return (
        os.geteuid() == 0
        and os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null") == 0
    )


def resize(folder: Path, size: str) -> None:
    """Give the disk that `mounted` made another size."""
    assert os.system(f"mount -o remount,size={size} {folder}") == 0


def is_open(port: int) -> bool:
    """Whether anybody answers at a port of this machine."""
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
    """Every file of slides that are done, and the tables without their column of seconds."""
    table = pq.read_table(out / "slides.parquet").drop_columns("seconds")
    done = {row["slide_id"] for row in table.to_pylist() if row["status"] == "done"}
    return {
        str(p.relative_to(out)): p.read_bytes()
        for slide_id in sorted(done)
        for p in sorted((out / "slides" / slide_id).rglob("*"))
        if p.is_file()
    }


def outcomes(out: Path) -> dict[str, tuple[str, str]]:
    """Status and reason's code of each slide."""
    rows = pq.read_table(out / "slides.parquet").to_pylist()
    return {row["slide_id"]: (row["status"], row["reason"].partition(":")[0]) for row in rows}


def events(out: Path, kind: str) -> int:
    """How often something stands in the ledger."""
    return (
        sum(line["event"] == kind for line in ledger(out)) if (out / "ledger.jsonl").exists() else 0
    )


def ledger(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of the ledger that are whole."""
    for line in (out / "ledger.jsonl").read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _rename_slowly(seconds: float) -> None:
    replace = Path.replace

    def slow(path: Path, target: Path) -> Path:
        time.sleep(seconds)
        return replace(path, target)

    Path.replace = slow  # type: ignore[method-assign]


if (
    __name__ != "__main__" and "NIGHTMARE_RENAME_S" in os.environ
):  # in workers too: they import this module
    _rename_slowly(float(os.environ["NIGHTMARE_RENAME_S"]))


def main() -> None:
    """The command line with faulty steps."""
    simulated = "NIGHTMARE_SIMULATED" in os.environ
    noctile.workflows.run.loop.do = simulate if simulated else do_with_faults  # type: ignore[assignment]
    from noctile.cli import main as cli

    cli()


if __name__ == "__main__":
    import nightmare  # pickled by the name under which workers find it

    nightmare.main()
