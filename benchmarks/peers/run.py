"""Peers end to end on one slide with a trivial model: wall time, memory, disk.

    python -m benchmarks.peers.run --slide S --model W.npz [--only tiatoolbox ...] [--envs
    build/peers] [--keep FOLDER]

Each peer runs in its own environment (setup.sh) by its own runner (run_*.py), one after the other,
on all cores that this process may use (``taskset`` limits them). W.npz: see
`benchmarks.common.trivial_model`.
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
"""Where setup.sh puts the environments."""

_HERE = Path(__file__).parent
_INTERVAL_S = 0.5
_BLOCK_BYTES = 512
"""What ``st_blocks`` counts in (POSIX)."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One run of one peer.

    Attributes:
        peer: its name on PyPI.
        version: of it.
        wall_s: of the whole process: start, imports, segmentation, result.
        run_s: of that, from after the imports until the result is written.
        cpu_s: of all its processes, by the kernel's count; says more than ``wall_s`` when the
            machine has other work.
        tiles: that the model saw.
        peak_mb: memory of all its processes together at its highest (MB, see
            `benchmarks.big_slide.Used`).
        largest_mb: of its largest process.
        disk_mb: what lay in its working folder at its highest, result included (MB on disk).
        result_mb: what it left there.
        load: mean of the machine's load while it was watched, its own included.
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
    """Segment a slide with a peer, in a process of its own: once for the time, once more for memory
    and disk.

    Args:
        peer: one of `PEERS`.
        slide: at 0.5 um/px.
        model: weights.npz of `benchmarks.common.trivial_model`.
        work: gets a folder named after the peer, which must not be there yet; spill and result go
            there.
        envs: folder of the environments.

    Raises:
        FileNotFoundError: the peer has no environment.
        FileExistsError: its working folder is there already.
        subprocess.CalledProcessError: it failed.
    """
    python = envs.absolute() / peer / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(
            f"{peer} has no environment: {python} is missing. Run benchmarks/peers/setup.sh."
        )
    folder = work / peer
    runner = _HERE / f"run_{peer.replace('-', '_')}.py"
    scratch = folder / "tmp"
    command = [
        "env",
        f"TMPDIR={scratch.absolute()}",
        python,
        runner,
        "--slide",
        slide,
        "--model",
        model,
    ]
    parts = [str(part) for part in [*command, "--work", folder]]
    scratch.mkdir(parents=True)
    before_s = _children_s()
    seconds = run_alone(parts)
    cpu_s = _children_s() - before_s
    said = json.loads((folder / RESULT).read_text())
    shutil.rmtree(folder)
    scratch.mkdir(parents=True)
    with _Watch(folder) as watch:
        used = run_watched(parts)
    return PeerResult(
        peer,
        said["version"],
        seconds,
        said["seconds"],
        cpu_s,
        said["tiles"],
        used.together_mb,
        used.largest_mb,
        watch.highest_mb,
        _size_mb(folder),
        statistics.fmean(watch.loads),
    )


def _children_s() -> float:
    """CPU seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watch:
    """Size of a folder and load of the machine, as long as the block lasts."""

    def __init__(self, folder: Path) -> None:
        self.highest_mb = 0.0
        self.loads: list[float] = []
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

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

    def _look(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_INTERVAL_S)
            self.highest_mb = max(self.highest_mb, _size_mb(self._folder))
            self.loads.append(os.getloadavg()[0])


def _size_mb(folder: Path) -> float:
    """What the files of a folder take on disk (MB); they may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_blocks * _BLOCK_BYTES
            except FileNotFoundError:
                continue
    return total / 1e6


def table(results: Sequence[PeerResult]) -> str:
    """Markdown, a row for each run."""
    rows = [
        "| peer | wall s | after imports s | CPU s | tiles | s/tile | peak MB | disk MB | result MB | load |",
        "|---" * 10 + "|",
    ]
    rows += [
        f"| {r.peer} {r.version} | {r.wall_s:.1f} | {r.run_s:.1f} | {r.cpu_s:.1f} | {r.tiles} "
        f"| {r.run_s / r.tiles:.3f} | {r.peak_mb:.0f} | {r.disk_mb:.1f} | {r.result_mb:.1f} | {r.load:.1f} |"
        for r in results
    ]
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--envs", type=Path, default=ENVS)
    parser.add_argument(
        "--keep", type=Path, help="work and leave the results here instead of in a temporary folder"
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
