"""The GPU path, checked and timed in less than 8 minutes on one machine, without a network.

    python -m benchmarks.gpu [--processes 16 20] [--out gpu.md]

On a machine without a network, install from wheels first; on one that has it, with the same Python
and system:

    pip download -c constraints.txt -d wheels '.[test]'      # there; about 4 GB, most of it torch
    with CUDA pip install --no-index --find-links wheels noctile       # here

Prints, and writes as a table:

1. tiles/s of a ResNet34 U-Net of 21 classes in fp16, tiles already on the GPU, by batch, eager and
   compiled: its logits alone, and with what is decided of each pixel;
2. the whole run of that model on two slides of 100,000 x 80,000 px (40x, tissue on 35 %; ``--size``
   makes others), by number of workers: tiles/s between the first block and the last, the same when
   under way and its ratio to the network alone, when each slide was done, how busy the GPU was,
   memory; compiled, too;
3. the inference server alone, for as many workers that read nothing; reading alone: tiles/s of a
   40x slide for a 20x model by number of processes, on the CPU; JPEG tiles/s on the GPU;
4. agreement: labels of fp16 on the GPU against fp32 on the CPU, shipped model, generated tissue (>=
99.9 %); 5. from the machine's memory: tiles up, through the network, joined, labels down.

What might not end within the 8 minutes is named and left out.

``--device cpu --tiles 2 --size 9000 7000 --processes 2`` runs the script itself where there is no
GPU.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import segmentation_models_pytorch as smp
import torch
import torchvision  # type: ignore[import-untyped]
from tifffile import TiffFile

from benchmarks.common import BUILD, slide
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.network import save_model
from noctile.pipeline.models.predictor import predict_labels
from noctile.pipeline.models.torch_predictor import TorchPredictor
from noctile.pipeline.plan import TileGrid, TilePlan
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.stitch.canvas import CropCanvas, labelled_part
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.inference.server import CONCURRENT_BATCHES, InferenceServers
from noctile.workflows.processes.control import memory_bytes
from noctile.workflows.resources import cores
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings
from sample_slides.region import make_region

UInt8 = npt.NDArray[np.uint8]
TILE_PX = 512

_MINUTES, _PART_S = 8, 90
"""The script ends within so many minutes: no part begins that might not end in time (s)."""


class Report:
    """Lines of the table, printed as they come."""

    def __init__(self) -> None:
        self.lines = ["| what | figure |", "|---|---|"]

    def __call__(self, what: str, figure: str) -> None:
        """Add a line."""
        self.lines.append(f"| {what} | {figure} |")
        print(self.lines[-1], flush=True)


def study_model(folder: Path) -> Path:
    """A ResNet34 U-Net of 21 classes with seeded weights, as a model folder."""
    if not (folder / "card.json").exists():
        torch.manual_seed(0)
        network = smp.Unet("resnet34", encoder_weights=None, classes=21)
        classes = [
            {"code": k, "name": f"class_{k}", "color": (k, k, k), "role": "tissue"}
            for k in range(1, 22)
        ]
        about = {
            "name": "study",
            "description": "seeded",
            "classes": classes,
            "mpp": 0.5,
            "licence": "CC0-1.0",
        }
        save_model(folder, network, about)
    return folder


def tissue_tiles(n: int) -> UInt8:
    """Generated tissue, uint8 ``[n, 512, 512, 3]``."""
    side = int(np.ceil(np.sqrt(n)))
    region = make_region(7, side * TILE_PX, side * TILE_PX, 0.5)[0]
    tiles = (
        region.reshape(side, TILE_PX, side, TILE_PX, 3)
        .swapaxes(1, 2)
        .reshape(-1, TILE_PX, TILE_PX, 3)
    )
    return np.ascontiguousarray(tiles[:n])


def per_second(n: int, do: Callable[[], object], device: str, seconds: float = 1.5) -> float:
    """How many of ``n`` things at a time are done in a second, once warm."""
    do()
    _wait(device)
    start, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - start < seconds:
        do()
        rounds += 1
        if rounds % 4 == 0:
            _wait(device)
    _wait(device)
    return n * rounds / (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def agreement(report: Report, device: str, n_tiles: int) -> None:
    """Labels on the device against fp32 on the CPU."""
    tiles, model = tissue_tiles(n_tiles), find_model("tumor")
    truth = np.asarray(load_predictor(model, "cpu")(tiles)).argmax(axis=1)
    for compiled in (False, True) if device != "cpu" else (False,):
        winner = predict_labels(
            load_predictor(model, device, compiled=compiled), tiles, slice(None)
        ).label
        found = np.asarray(winner.cpu() if device != "cpu" else winner)
        how = "compiled" if compiled else "eager"
        report(
            f"labels as fp32 on the CPU, {read_card(model).name}, {how}",
            f"{(found == truth).mean():.4%}",
        )


def network_alone(
    report: Report, device: str, study: Path, batches: list[int], *, compiled: bool
) -> float:
    """Tiles per second of the network alone; the best."""
    best, how = 0.0, "compiled" if compiled else "eager"
    start = time.perf_counter()
    predict = load_predictor(study, device, compiled=compiled)
    assert isinstance(predict, TorchPredictor)
    logits, decided = predict._logits, partial(predict._labels, part=slice(None))
    for n in [predict.batch_size] if compiled else batches:
        tiles = torch.from_numpy(np.tile(tissue_tiles(4), (-(-n // 4), 1, 1, 1))[:n]).to(device)
        alone, both = (per_second(n, partial(do, tiles), device) for do in (logits, decided))
        report(
            f"network alone, batch {n}, {how}", f"{alone:.4g} tiles/s; with the decision {both:.4g}"
        )
        best = max(best, alone)
    if compiled:
        report("to compile it and to measure", f"{time.perf_counter() - start:.0f} s")
    return best


def from_memory(report: Report, device: str, study: Path) -> None:
    """Host tiles to host labels, as a block does it."""
    predict = load_predictor(study, device)
    n = predict.batch_size
    tiles = np.tile(tissue_tiles(1), (n, 1, 1, 1))
    stride = TILE_PX - 128
    grid = TileGrid(TILE_PX, 128, Extent(stride, n * stride))
    box = Box(0, 0, stride, n * stride)
    inside = np.ones((stride, n * stride), np.bool_)

    def block() -> None:
        canvas = CropCanvas(box, grid, list(range(1, 22)), inside.copy())
        canvas.add_labels(
            [(0, k) for k in range(n)], predict_labels(predict, tiles, labelled_part(grid))
        )
        canvas.finish()

    report(f"from memory to labels, batch {n}", f"{per_second(n, block, device):.3g} tiles/s")


def _ask(address: str, n: int, seconds: float) -> float:
    """Ask a server for batches of tiles for so long; tiles per second that one worker had answered."""
    predict, tiles = ServedPredictor(address), np.tile(tissue_tiles(1), (n, 1, 1, 1))
    predict.predict_labels(tiles, slice(None))
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        predict.predict_labels(tiles, slice(None))
        rounds += 1
    return n * rounds / (time.perf_counter() - start)


def server_alone(report: Report, device: str, study: Path, workers: int) -> None:
    """What an inference server answers to workers that read nothing: the whole path without slides."""
    with closing(
        InferenceServers(
            ["0"], partial(load_predictor, study, device, processes_per_gpu=CONCURRENT_BATCHES)
        )
    ) as servers:
        (address,) = servers.addresses.values()
        n = ServedPredictor(address).batch_size
        with get_context("spawn").Pool(workers) as pool:
            pool.starmap(_ask, [(address, n, 0.5)] * workers, chunksize=1)
            rates = pool.starmap(_ask, [(address, n, 4.0)] * workers, chunksize=1)
    report(
        f"inference server alone, {workers} workers that read nothing", f"{sum(rates):.4g} tiles/s"
    )


def _read(path: Path, part: int, parts: int) -> int:
    """Read some of the rows of a slide for a 20x model; how many tiles that was."""
    reader = open_slide(path)
    frame = reader.info.frame.at(0.5)
    rows = range(0, frame.extent.height - TILE_PX, 2048)[part::parts]
    wide = min(8192, frame.extent.width) // TILE_PX
    for y in rows:
        reader.read(Box(y, 0, TILE_PX, wide * TILE_PX), 0.5)
    return len(rows) * wide


def reading(report: Report, path: Path, device: str, processes: list[int]) -> None:
    """Tiles per second off a 40x slide for a 20x model."""
    for count in processes:
        with get_context("spawn").Pool(count) as pool:
            pool.starmap(_read, [(path, k, 64) for k in range(count)], chunksize=1)
            start = time.perf_counter()
            n = sum(
                pool.starmap(_read, [(path, k, 4 * count) for k in range(4 * count)], chunksize=1)
            )
            report(
                f"reading, {count} processes", f"{n / (time.perf_counter() - start):.0f} tiles/s"
            )
    if device == "cpu":
        return
    with TiffFile(path) as tiff:
        page = tiff.pages.first
        some = range(len(page.dataoffsets) // 2, len(page.dataoffsets) // 2 + 256)
        data = []
        for k in some:
            tiff.filehandle.seek(page.dataoffsets[k])
            data.append(bytes(tiff.filehandle.read(page.databytecounts[k])))
        tables = page.jpegtables
    whole = [(tables[:-2] + tile[2:]) if tables else tile for tile in data]
    streams = [torch.frombuffer(bytearray(stream), dtype=torch.uint8) for stream in whole]
    decode: Any = torchvision.io.decode_jpeg
    rate = per_second(len(streams), lambda: decode(streams, device=device), device)
    report(
        "JPEG tiles of 256 px decoded on the GPU",
        f"{rate:.0f} /s = {rate / 16:.0f} tiles of a 20x model /s",
    )


class Memory:
    """The most that descendants of this process hold, together and the largest, while the context
    is open (B).
    """

    def __init__(self) -> None:
        self.together = self.largest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(1):
            held = [
                memory_bytes(process.pid) for process in psutil.Process().children(recursive=True)
            ]
            self.together, self.largest = max(self.together, sum(held)), max(self.largest, *held, 0)


def whole_run(report: Report, path: Path, model: Path, alone: float, **settings: Any) -> None:
    """The run as a user starts it, on two slides of the same pixels."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        slides = [Path(scratch) / f"{name}.tif" for name in ("first", "second")]
        for link in slides:
            link.hardlink_to(path)
        start, out = time.perf_counter(), Path(scratch) / "results"
        with Memory() as memory:
            run = RunSettings(model=str(model.resolve()), **settings)
            result = run_slides(find_slides(slides, None, None), run, out, lambda *_: None)
        seconds = time.perf_counter() - start
        lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
        plans = {
            file.parent.name: json.loads(file.read_text())["plan"]
            for file in out.glob("slides/*/plan.json")
        }
    name = f"whole run, {read_card(model).name}, {', '.join(f'{k} {v}' for k, v in settings.items() if k != 'device')}"
    if any(row.status != "done" for row in result.rows):
        report(name, f"FAILED: {[line for line in lines if line['event'] == 'failed']}")
        return
    ends = {
        (x["event"], x["slide_id"], str(x.get("block"))): _when(x) for x in lines if "slide_id" in x
    }
    begins = {
        key: _when(x) - x["seconds"]
        for x in lines
        if "seconds" in x
        for key in [(x["event"], x["slide_id"])]
    }
    blocks = [(_when(x) - x["seconds"], _when(x)) for x in lines if x["event"] == "segment"]
    first, last = min(b for b, _ in blocks), max(e for _, e in blocks)
    tiles = result.pace.predictions
    report(name, f"{seconds:.1f} s with start and end, {tiles} tiles; {result.pace}")
    report(
        "its blocks",
        f"{tiles / (last - first):.4g} tiles/s from the first to the last, {last - first:.2f} s",
    )
    rate = _steady(lines, {slide_id: TilePlan.from_json(plan) for slide_id, plan in plans.items()})
    report(
        "when under way (from the first fifth of the tiles to the last but a twentieth)",
        f"{rate:.4g} tiles/s",
    )
    if alone:
        report("the same / network alone", f"{rate / alone:.1%}")
    looks = [
        (event, slide_id, round(x, 2))
        for (event, slide_id), x in begins.items()
        if event != "segment"
    ]
    report(
        "its steps (s since the first block)",
        f"{[(e, s, round(x - first, 2)) for e, s, x in looks]}",
    )
    done = {s: round(t - first, 2) for (event, s, _), t in ends.items() if event == "finish"}
    report("its slides were done (s since the first block)", f"{done}")
    busy = result.pace.gpu_busy
    report(
        "GPU time a slide",
        f"{busy * result.pace.seconds / 2:.2f} s" if busy is not None else "unknown",
    )
    report(
        "memory of its processes",
        f"{memory.together / 1e9:.1f} GB together, the largest {memory.largest / 1e9:.2f}",
    )


def compiled(report: Report, path: Path, study: Path, device: str, workers: int) -> None:
    """The network alone and the whole run, with ``torch.compile``."""
    alone = network_alone(report, device, study, [], compiled=True)
    whole_run(
        report, path, study, alone, device=device, overlap_px=0, workers=workers, compile=True
    )


def _steady(lines: list[dict[str, Any]], plans: dict[str, TilePlan]) -> float:
    """Tiles per second between the end of a fifth of them and the end of all but a twentieth."""
    counts = {
        (slide_id, block.key): len(block.tiles)
        for slide_id, plan in plans.items()
        for block in plan.blocks
    }
    blocks = [
        (_when(x), counts[x["slide_id"], tuple(x["block"])])
        for x in lines
        if x["event"] == "segment"
    ]
    times, tiles = (np.array(values) for values in zip(*sorted(blocks), strict=True))
    done = np.cumsum(tiles)
    begin, end = np.searchsorted(done, [0.2 * done[-1], 0.95 * done[-1]])
    return float((done[end] - done[begin]) / (times[end] - times[begin]))


def _when(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiles", type=int, default=16, help="tiles whose labels are compared")
    parser.add_argument("--size", type=int, nargs=2, default=(100_000, 80_000))
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[16, 20], help="that read and join"
    )
    parser.add_argument("--out", type=Path, help="write the table here")
    a = parser.parse_args()
    report, start = Report(), time.perf_counter()
    gpu = a.device != "cpu"
    name = torch.cuda.get_device_name() if gpu else "CPU"
    report("machine", f"{name}, {cores()} cores, torch {torch.__version__}")
    width, height = a.size
    path = slide(width, height, 0.25)
    study = study_model(BUILD / "study")
    alone = network_alone(report, a.device, study, [8, 16, 32, 64] if gpu else [1], compiled=False)
    run = partial(whole_run, report, path, device=a.device)
    parts: list[tuple[str, Callable[[], object]]] = []
    for count in a.processes:
        parts.append(
            (
                f"server alone, {count} workers",
                partial(server_alone, report, a.device, study, count),
            )
        )
        parts.append(
            (f"whole run, {count} workers", partial(run, study, alone, overlap_px=0, workers=count))
        )
    parts.append(("reading", partial(reading, report, path, a.device, [1, 16] if gpu else [1, 2])))
    parts.append(("agreement", partial(agreement, report, a.device, a.tiles)))
    if gpu:
        parts.append(
            ("compiled", partial(compiled, report, path, study, a.device, a.processes[-1]))
        )
    parts.append(("whole run, shipped model", partial(run, find_model("tumor"), 0.0)))
    parts.append(("from memory", partial(from_memory, report, a.device, study)))
    for what, measure in parts:
        if time.perf_counter() - start > 60 * _MINUTES - _PART_S:
            report(what, "not measured: the time is over")
        else:
            measure()
    report("all of this", f"{time.perf_counter() - start:.0f} s")
    if a.out:
        a.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
