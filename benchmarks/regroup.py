"""Time and memory of `noctile regroup` on one large slide with 22 classes.

    python -m benchmarks.regroup [--width 24000 --height 20000 --tissue 0.35] [--workers 2]

Makes the slide (benchmarks.make_slide) and runs it with a model that costs no time. Then it merges
four classes, and sets a threshold on the tumor map, each in a process that is watched.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.big_slide import run_alone, run_watched
from benchmarks.common import machine, slide, trivial_model

GROUPS = {
    "four classes merged": """
rest = "keep"
[[classes]]
name = "merged"
from = ["class_2", "class_3", "class_4", "class_5"]
""",
    "threshold": '[tumor]\nthreshold = 0.2\nbelow = "class_2"\n',
}
"""Groups file by the name of the work."""


def main() -> None:
    """Print one row for each groups file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=24_000)
    parser.add_argument("--height", type=int, default=20_000)
    parser.add_argument("--tissue", type=float, default=0.35)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    path = slide(options.width, options.height, 0.5, options.tissue)
    noctile = [sys.executable, "-m", "noctile"]
    print(f"{options.width} x {options.height} px, tissue {options.tissue:.0%}; {machine()}")
    print("| work | wall (s) | CPU (s) | largest process (MB) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        model, results = str(trivial_model(top / "model", 22)), str(top / "results")
        call = [*noctile, "run", str(path), "--out", results, "--model", model, "--device", "cpu"]
        run_alone(call)
        for name, text in GROUPS.items():
            groups, out = top / "groups.toml", str(top / name)
            groups.write_text(text)
            words = ["--classes", str(groups), "--out", out, "--workers", str(options.workers)]
            used = run_watched([*noctile, "regroup", results, *words])
            print(f"| {name} | {used.seconds:.1f} | {used.cpu_s:.1f} | {used.largest_mb:.0f} |")
            run_alone([*noctile, "verify", out])


if __name__ == "__main__":
    main()
