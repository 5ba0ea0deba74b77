"""Time and memory of `noctile diff` on a pair of large masks, and on many small slides.

    python -m benchmarks.diff [--width 24000 --height 20000 --tissue 0.35] [--slides 1000]

The large slide (benchmarks.make_slide) is run twice with a model that costs no time: with 22
classes, and with 2. It is then compared in a process that is watched. The result of a small slide
is copied under many ids, and the copies are compared with themselves.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.big_slide import run_alone, run_watched
from benchmarks.common import machine, slide, trivial_model

NOCTILE = [sys.executable, "-m", "noctile"]


def main() -> None:
    """Print a row for the large pair, and one for the small slides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=24_000)
    parser.add_argument("--height", type=int, default=20_000)
    parser.add_argument("--tissue", type=float, default=0.35)
    parser.add_argument("--slides", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(machine())
    print("| work | wall (s) | CPU (s) | largest process (MB) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        large = slide(options.width, options.height, 0.5, options.tissue)
        for name, classes in (("a", 22), ("b", 2)):
            _run(large, top / name, trivial_model(top / f"model-{name}", classes))
        _compare(f"{options.width} x {options.height} px", top / "a", top / "b", top / "d", 1)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        _run(slide(2_000, 1_500, 0.5, 0.35), top / "one", trivial_model(top / "model", 2))
        for name in "ab":
            _copies(top / "one", top / name, options.slides)
        work = f"{options.slides} slides of 2000 x 1500 px"
        _compare(work, top / "a", top / "b", top / "d", options.workers)


def _run(path: Path, out: Path, model: Path) -> None:
    words = ["--out", str(out), "--model", str(model), "--device", "cpu"]
    run_alone([*NOCTILE, "run", str(path), *words])


def _copies(source: Path, out: Path, n: int) -> None:
    """Copy the only result of a folder under many ids, each with a content of its own."""
    (result,) = (source / "slides").iterdir()
    for k in range(n):
        target = out / "slides" / f"slide{k:04}"
        shutil.copytree(result, target)
        summary = json.loads((target / "summary.json").read_text())
        text = json.dumps(summary | {"fingerprint": f"{k:016x}"}, indent=1) + "\n"
        (target / "summary.json").write_text(text)
        sums = json.loads((target / "checksums.json").read_text())
        sums["bytes"]["summary.json"] = len(text.encode())
        (target / "checksums.json").write_text(json.dumps(sums))


def _compare(work: str, a: Path, b: Path, out: Path, workers: int) -> None:
    words = ["--out", str(out), "--workers", str(workers), "-q"]
    used = run_watched([*NOCTILE, "diff", str(a), str(b), *words])
    print(f"| {work} | {used.seconds:.1f} | {used.cpu_s:.1f} | {used.largest_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main()
