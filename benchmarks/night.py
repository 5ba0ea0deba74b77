"""Whole runs, from the command to the table, with a model that costs almost no time.

    python -m benchmarks.night [--runs 3] [--peers NAME ...] [--backend torch] [--study] [--sizes]

Without ``--study`` and ``--sizes``: a slide of 24,000 x 20,000 px with tissue on 35 %, 21 classes,
tiles of 512 px at 0.5 um/px without overlap, two workers on the CPU. Printed are:

- seconds from start to end (median);
- wall time per tile outside the model, of a further slide and of the run with its start;
- seconds for the steps of the slide itself (tissue, plan, coarse levels, figures, preview);
- peak memory of all processes together.

With ``--peers tiatoolbox lazyslide wsi-tile-processor``, the same slide and weights go through
other programs, each run in turn with Noctile's.

With ``--study``: a ResNet34 U-Net of 21 classes on slides of 6,000 x 6,000 px. Printed is the time
that a second and a third slide add to a run, beside the time that the network and the choice of
labels alone take for as many tiles on the same cores.

With ``--sizes``: slides of four sizes, and one size with four shares of tissue; a table, and a plot
in ``build/benchmarks/cost.png``.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq

from benchmarks.big_slide import Used, run_alone, run_watched
from benchmarks.common import BUILD, machine, resnet34_unet, side_by_side, slide, trivial_model
from noctile.workflows.processes.environment import MALLOC

SIZES = ((6_000, 5_000), (12_000, 10_000), (24_000, 20_000), (48_000, 40_000))
SHARES = (0.05, 0.1, 0.2, 0.4)
CORES = 2


@dataclass(frozen=True, slots=True)
class Run:
    """Times of one run, measured without watching its processes, which would slow it.

    Attributes:
        seconds: time from start to end (s).
        tiles: number of tiles that were predicted.
        slide_s: time of the steps prepare and finish (s).
    """

    seconds: float
    tiles: int
    slide_s: float


Pair = tuple[Run, Run]
"""A run of one slide, and a run of three copies of it."""


def command(slides: list[Path], out: Path, model: Path, backend: str) -> list[str]:
    """Return the command line of ``noctile run``."""
    paths = [str(path) for path in (*slides, "--out", out, "--model", model)]
    return [sys.executable, "-m", "noctile", "run", *paths, "--device", "cpu", "--backend", backend]


def run(slides: list[Path], model: Path, backend: str = "auto") -> Run:
    """Run Noctile once, without watching it."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results"
        seconds = run_alone(command(slides, out, model, backend))
        rows = pq.read_table(out / "slides.parquet").to_pylist()
        lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    own = sum(line["seconds"] for line in lines if line["event"] in ("prepare", "finish"))
    return Run(seconds, sum(row["tiles"] for row in rows), own)


def watched(slides: list[Path], model: Path, backend: str = "auto") -> Used:
    """Measure memory and CPU time of one run."""
    with tempfile.TemporaryDirectory() as scratch:
        return run_watched(command(slides, Path(scratch) / "results", model, backend))


@contextmanager
def pairs_of(path: Path, model: Path, backend: str) -> Iterator[Callable[[], Pair]]:
    """Provide a function that runs Noctile on one copy of a slide, and then on three."""
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Path(scratch) / f"copy-{k}.tif" for k in range(3)]
        for copy in copies:
            shutil.copyfile(path, copy)  # one slide under three names would be done once
        yield lambda: (run(copies[:1], model, backend), run(copies, model, backend))


def further_s(pairs: Iterable[Pair]) -> float:
    """Wall time of a further slide in a run, without the start of the run (s)."""
    return statistics.median(three.seconds - one.seconds for one, three in pairs) / 2


def model_seconds(model: Path, backend: str, times: int = 101) -> float:
    """Wall time per tile to predict labels (s), with one process on each core, all at once."""
    with (
        mock.patch.dict(os.environ, MALLOC),
        ProcessPoolExecutor(CORES, get_context("spawn")) as pool,
    ):
        each = pool.map(_time_labels, [model] * CORES, [backend] * CORES, [times] * CORES)
        return statistics.mean(each) / CORES


def _time_labels(model: Path, backend: str, times: int) -> float:
    """Median wall time to predict the labels of a tile (s)."""
    import numpy as np

    from noctile.pipeline.models.load import load_predictor
    from noctile.pipeline.models.predictor import predict_labels

    predict = load_predictor(model, "cpu", threads=1, backend=backend)
    tile = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), np.uint8)
    work = {"model": lambda: predict_labels(predict, tile, slice(None))}
    return side_by_side(work, times)["model"][0]


def compare(runs: int, peers: list[str], envs: Path, backend: str) -> None:
    """Run Noctile and its peers on one slide, and print the table."""
    from benchmarks.peers.run import PeerResult, measure

    path = slide()
    model = trivial_model(BUILD / "trivial", overlap_px=0)
    pairs: list[Pair] = []
    theirs: dict[str, list[PeerResult]] = {name: [] for name in peers}
    model_s = model_seconds(model, backend)
    with pairs_of(path, model, backend) as pair:
        for _ in range(runs):  # in turn: all meet the same state of the machine
            pairs.append(pair())
            for name, found in theirs.items():
                with tempfile.TemporaryDirectory() as scratch:
                    found.append(measure(name, path, model / "weights.npz", Path(scratch), envs))
                line = f"{pairs[-1][0].seconds:.1f} s, {name} {found[-1].wall_s:.1f} s"
                print(line, file=sys.stderr, flush=True)
    ours = [one for one, _ in pairs]
    seconds, tiles = statistics.median(one.seconds for one in ours), ours[0].tiles
    used = watched([path], model, backend)
    print("| program | s | tiles | peak MB | s / Noctile's |\n|---|---|---|---|---|")
    print(f"| Noctile | {seconds:.1f} | {tiles} | {used.together_mb:.0f} | 1 |")
    for name, found in theirs.items():
        wall_s = statistics.median(result.wall_s for result in found)
        figures = f"{wall_s:.1f} | {found[0].tiles} | {found[0].peak_mb:.0f}"
        print(f"| {name} | {figures} | {wall_s / seconds:.1f} |")
    own = statistics.median(one.slide_s for one in ours)
    of_run, of_slide = (1000 * (s / tiles - model_s) for s in (seconds, further_s(pairs)))
    print(
        f"\nNoctile: {of_slide:.1f} ms of wall time a tile outside the model, {of_run:.1f} with "
        "the run's start;"
    )
    print(f"the model itself {1000 * model_s:.1f} ms; prepare and finish {own:.2f} s for a slide")
    print(f"CPU time of all processes: {used.cpu_s:.1f} s for the run")


def study(runs: int, backend: str) -> None:
    """Print the time of a further slide, with a real network, beside the network alone."""
    model, first = resnet34_unet(BUILD / "study", "study"), slide(6_000, 6_000)
    alone: list[float] = []
    pairs: list[Pair] = []
    with pairs_of(first, model, backend) as pair:
        for _ in range(runs):  # in turn: all meet the same state of the machine
            alone.append(model_seconds(model, backend, times=15))
            pairs.append(pair())
    tile_s = statistics.median(alone)
    slide_s, n = further_s(pairs), pairs[0][0].tiles
    print("| tiles of a slide | a further slide | the network alone for its tiles | ratio |")
    print("|---|---|---|---|")
    print(f"| {n} | {slide_s:.1f} s | {n * tile_s:.1f} s | {slide_s / (n * tile_s):.2f} |")


def sizes() -> None:
    """Print and plot time and memory by size of the slide and share of tissue."""
    import matplotlib.pyplot as plt

    model = trivial_model(BUILD / "trivial", overlap_px=0)
    print("| slide (px) | tissue | tiles | s | peak MB |\n|---|---|---|---|---|")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    rows = {
        "tissue on 35 %, four sizes": [(size, 0.35) for size in SIZES],
        "24,000 x 20,000 px, four shares": [(SIZES[2], share) for share in SHARES],
    }
    for name, cases in rows.items():
        tiles, seconds, peaks = [], [], []
        for (width, height), share in cases:
            paths = [slide(width, height, tissue=share)]
            timed, used = run(paths, model), watched(paths, model)
            tiles.append(timed.tiles)
            seconds.append(timed.seconds)
            peaks.append(used.together_mb)
            figures = f"{timed.tiles} | {timed.seconds:.1f} | {used.together_mb:.0f}"
            print(f"| {width} x {height} | {share:.0%} | {figures} |", flush=True)
        for axis, values in zip(axes, (seconds, peaks), strict=True):
            axis.plot(tiles, values, marker="o", label=name)
    for axis, what in zip(axes, ("seconds", "peak memory of all processes (MB)"), strict=True):
        axis.set(xlabel="tiles", ylabel=what, xlim=(0, None), ylim=(0, None))
        axis.legend(frameon=False)
    figure.savefig(BUILD / "cost.png", dpi=120)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument(
        "--envs", type=Path, default=Path("build/peers"), help="folder of the peers' environments"
    )
    parser.add_argument("--backend", default="auto", help="backend of Noctile, as in noctile run")
    parser.add_argument("--study", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    a = parser.parse_args()
    print(f"{machine()}\n")
    if a.sizes:
        sizes()
    elif a.study:
        study(a.runs, a.backend)
    else:
        compare(a.runs, a.peers, a.envs, a.backend)


if __name__ == "__main__":
    main()
