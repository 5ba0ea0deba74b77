"""Wall time, memory and disk of other programs on one slide, with a trivial model.

    python -m benchmarks.peers.run --slide S --model W.npz [--only tiatoolbox ...]
        [--envs build/peers] [--keep FOLDER]

Each program (peer) has its own environment (setup.sh) and its own runner (run_*.py). The peers run
one after the other, on all cores that this process may use (``taskset`` limits them). W.npz is the
file that `benchmarks.common.trivial_model` writes.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.big_slide import run_alone, run_watched
from benchmarks.common import machine
from benchmarks.peers.pointwise import RESULT

PEERS = ("tiatoolbox", "lazyslide", "wsi-tile-processor")
ENVS = Path("build/peers")
"""Folder in which setup.sh makes the environments."""

_HERE = Path(__file__).parent
_INTERVAL_S = 0.5
_BLOCK_BYTES = 512
"""Unit of ``st_blocks`` (B, POSIX)."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """Figures of one run of one peer.

    Attributes:
        peer: name of the peer on PyPI.
        version: version of the peer.
        wall_s: wall time of the whole process: start, imports, segmentation, result (s).
        run_s: wall time from the end of the imports until the result is written (s).
        cpu_s: CPU time of all its processes (s); more reliable than ``wall_s`` on a busy machine.
        tiles: number of tiles that were predicted.
        peak_mb: peak memory of all its processes together (MB; see `benchmarks.big_slide.Used`).
        largest_mb: peak memory of its largest process (MB).
        disk_mb: peak size of its working folder on disk, with the result (MB).
        result_mb: size of the result on disk (MB).
        load: mean load of the machine during the run, with the peer's own.
    """

    peer: str
    version: str
    wall_s: float
    run_s: float
    cpu_s: float
    tiles: int
    peak_mb: float
    largest_mb: float
    disk_mb: float
    result_mb: float
    load: float


def measure(peer: str, slide: Path, model: Path, work: Path, envs: Path = ENVS) -> PeerResult:
    """Segment a slide with a peer twice: first for the time, then for memory and disk.

    Args:
        peer: one of `PEERS`.
        slide: slide with 0.5 um/px.
        model: weights.npz of `benchmarks.common.trivial_model`.
        work: folder in which the peer's working folder is made; temporary files and the result go
            there.
        envs: folder of the environments.

    Raises:
        FileNotFoundError: if the peer has no environment.
        FileExistsError: if its working folder exists.
        subprocess.CalledProcessError: if the peer fails.
    """
    python = envs.absolute() / peer / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(
            f"{peer} has no environment: {python} is missing. Run benchmarks/peers/setup.sh."
        )
    folder = work / peer
    runner = _HERE / f"run_{peer.replace('-', '_')}.py"
    scratch = folder / "tmp"
    options = ["--slide", slide, "--model", model, "--work", folder]
    parts = [str(p) for p in ["env", f"TMPDIR={scratch.absolute()}", python, runner, *options]]
    scratch.mkdir(parents=True)
    before_s = _children_s()
    seconds = run_alone(parts)
    cpu_s = _children_s() - before_s
    figures = json.loads((folder / RESULT).read_text())
    shutil.rmtree(folder)
    scratch.mkdir(parents=True)
    with _Watch(folder) as watch:
        used = run_watched(parts)
    return PeerResult(
        peer,
        figures["version"],
        seconds,
        figures["seconds"],
        cpu_s,
        figures["tiles"],
        used.together_mb,
        used.largest_mb,
        watch.highest_mb,
        _size_mb(folder),
        statistics.fmean(watch.loads),
    )


def _children_s() -> float:
    """CPU time of this process's children that have ended (s)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watch:
    """Peak size of a folder and loads of the machine, while the context is open."""

    def __init__(self, folder: Path) -> None:
        self.highest_mb = 0.0
        self.loads: list[float] = []
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_INTERVAL_S)
            self.highest_mb = max(self.highest_mb, _size_mb(self._folder))
            self.loads.append(os.getloadavg()[0])


def _size_mb(folder: Path) -> float:
    """Size of the files of a folder on disk (MB); files may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_blocks * _BLOCK_BYTES
            except FileNotFoundError:
                continue
    return total / 1e6


def table(results: Sequence[PeerResult]) -> str:
    """Make a Markdown table with a row for each run."""
    rows = [
        "| peer | wall s | after imports s | CPU s | tiles | s/tile | peak MB | disk MB "
        "| result MB | load |",
        "|---" * 10 + "|",
    ]
    rows += [
        f"| {r.peer} {r.version} | {r.wall_s:.1f} | {r.run_s:.1f} | {r.cpu_s:.1f} | {r.tiles} "
        f"| {r.run_s / r.tiles:.3f} | {r.peak_mb:.0f} | {r.disk_mb:.1f} | {r.result_mb:.1f} "
        f"| {r.load:.1f} |"
        for r in results
    ]
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--envs", type=Path, default=ENVS)
    parser.add_argument(
        "--keep", type=Path, help="folder for work and results; they are kept there"
    )
    a = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        results = [
            measure(peer, a.slide, a.model, a.keep or Path(scratch), a.envs) for peer in a.only
        ]
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
