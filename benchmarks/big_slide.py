"""Time and memory of a run on a slide of 100,000 x 80,000 px, with a model that costs no time.

    python -m benchmarks.big_slide [--width 100000 --height 80000 --tissue 0.05] [--workers 2]
        [--classes 2] [--max-memory 4G]

Makes the slide (benchmarks.make_slide), runs `noctile run` on it in its own process, and records
the resident memory of that process and its descendants.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.common import trivial_model
from benchmarks.make_slide import SlideMaker

_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Used:
    """Time and memory of a command, with all processes that it started.

    Attributes:
        seconds: wall time from start to end (s).
        cpu_s: CPU time of all processes together (s), sampled; other programs disturb it less than
            the wall time.
        largest_mb: peak resident memory of the largest process (MB).
        together_mb: peak resident memory of all processes together (MB); shared memory counts once.
    """

    seconds: float
    cpu_s: float
    largest_mb: float
    together_mb: float


def run_alone(command: list[str]) -> float:
    """Run a command without watching it, and return its wall time (s).

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run_watched(command: list[str]) -> Used:
    """Run a command, and sample the memory and CPU time of its processes.

    Sampling adds up to a tenth to the time: the kernel counts every page of memory.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    start = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    largest = together = 0.0
    cpu: dict[int, float] = {}
    while process.poll() is None:
        family = (process, *_children(process))
        sizes = [_own_mb(p) for p in family]
        largest, together = max(largest, *sizes), max(together, sum(sizes))
        cpu |= {p.pid: seconds for p in family if (seconds := _cpu_s(p))}
        with suppress(psutil.TimeoutExpired):
            process.wait(_INTERVAL_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Used(time.perf_counter() - start, sum(cpu.values()), largest, together)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _own_mb(process: psutil.Process) -> float:
    """Proportional resident memory (PSS, Linux): memory that processes share is divided by them."""
    try:
        return float(process.memory_full_info().pss) / 1e6
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(times.user + times.system)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=100_000)
    parser.add_argument("--height", type=int, default=80_000)
    parser.add_argument("--tissue", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--max-memory", help="memory limit of a worker, e.g. 2G")
    parser.add_argument("--keep", type=Path, help="file of the slide: used if it exists, else made")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        slide = a.keep or work / "big.tif"
        if not slide.exists():
            SlideMaker(a.width, a.height, a.tissue, 0.25, seed=1).write(slide)
        model = trivial_model(work / "model", a.classes)
        out = work / "results"
        used = run_watched(_command(slide, out, model, a.workers, a.max_memory))
        print(f"\n{a.width} x {a.height} px, {slide.stat().st_size / 1e6:.0f} MB", end=", ")
        _report(out, used, f"{a.workers} workers, {a.classes} classes")


def _command(
    slide: Path, out: Path, model: Path, workers: int, max_memory: str | None
) -> list[str]:
    paths = [str(slide), "--out", str(out), "--model", str(model)]
    command = [sys.executable, "-m", "noctile", "run", *paths]
    command += ["--workers", str(workers), "--device", "cpu"]
    return command + (["--max-memory", max_memory] if max_memory else [])


def _report(out: Path, used: Used, settings: str) -> None:
    """Print the figures of a run from its results."""
    row = pq.read_table(out / "slides.parquet").to_pylist()[0]
    steps: dict[str, float] = {}
    for line in map(json.loads, (out / "ledger.jsonl").read_text().splitlines()):
        steps[line["event"]] = steps.get(line["event"], 0.0) + line.get("seconds", 0.0)
    work = ", ".join(f"{name} {value:.1f}" for name, value in steps.items() if value)
    files = [p for p in out.rglob("*") if p.is_file()]
    print(f"tissue {row['tissue_area_mm2']:.1f} mm2")
    print(f"{row['tiles']} tiles, {settings}: {used.seconds:.1f} s end to end")
    print(f"seconds of work: {work}")
    print(
        f"peak memory: {used.largest_mb:.0f} MB in the largest process, "
        f"{used.together_mb:.0f} MB in all together"
    )
    print(f"results: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
