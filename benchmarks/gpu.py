"""Check and time the GPU path in less than 8 minutes on one machine, without a network connection.

    python -m benchmarks.gpu [--processes 16 20] [--out gpu.md]

On a machine without a connection, install from wheels first. Get them on a machine that has one,
with the same Python and system:

    pip download -c constraints.txt -d wheels '.[test]'      # there; about 4 GB, most of it torch
    pip install --no-index --find-links wheels noctile       # here

Prints a table, and writes it to ``--out``:

1. speed of a ResNet34 U-Net of 21 classes in fp16, with tiles that are already on the GPU, by batch
   size, eager and compiled: its logits alone, and with the choice of labels;
2. the whole run of that model on two slides of 100,000 x 80,000 px (40x, tissue on 35 %; other
   sizes by ``--size``), by number of workers, eager and compiled: speed from the first block to the
   last, speed when under way and its ratio to the network alone, times at which each slide was
   done, GPU usage, memory;
3. the inference server alone, with as many workers that read nothing; reading alone, of a 40x slide
   for a 20x model, by number of processes on the CPU; decoding of JPEG tiles on the GPU;
4. agreement of labels: fp16 on the GPU and fp32 on the CPU, with the shipped model on generated
   tissue (at least 99.9 %);
5. speed from the machine's memory: tiles to the GPU, through the network, joined, labels back.

A part that might not end within the 8 minutes is named and left out.

Without a GPU, ``--device cpu --tiles 2 --size 9000 7000 --processes 2`` tests the script itself.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision  # type: ignore[import-untyped]
from tifffile import TiffFile

from benchmarks.common import BUILD, resnet34_unet, slide
from benchmarks.gpu_run import Report, whole_run
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import predict_labels
from noctile.pipeline.models.torch_predictor import TorchPredictor
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.stitch.canvas import CropCanvas, labelled_part
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.inference.server import CONCURRENT_BATCHES, InferenceServers
from noctile.workflows.resources import cores
from sample_slides.region import make_region

UInt8 = npt.NDArray[np.uint8]
TILE_PX = 512

_MINUTES, _PART_S = 8, 90
"""Time limit of the script (min), and time that must be left for a part to start (s)."""


class Table:
    """Table that grows line by line; each line is printed at once."""

    def __init__(self) -> None:
        self.lines = ["| what | figure |", "|---|---|"]

    def __call__(self, what: str, figure: str) -> None:
        """Add a line."""
        self.lines.append(f"| {what} | {figure} |")
        print(self.lines[-1], flush=True)


def tissue_tiles(n: int) -> UInt8:
    """Generate tiles of tissue, uint8 ``[n, 512, 512, 3]``."""
    side = int(np.ceil(np.sqrt(n)))
    region = make_region(7, side * TILE_PX, side * TILE_PX, 0.5)[0]
    tiles = (
        region.reshape(side, TILE_PX, side, TILE_PX, 3)
        .swapaxes(1, 2)
        .reshape(-1, TILE_PX, TILE_PX, 3)
    )
    return np.ascontiguousarray(tiles[:n])


def per_second(n: int, do: Callable[[], object], device: str, seconds: float = 1.5) -> float:
    """Speed of a function that does ``n`` items at a time, after a first call (items/s)."""
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
    """Compare labels on the device with labels of fp32 on the CPU."""
    tiles, model = tissue_tiles(n_tiles), find_model("tumor")
    truth = np.asarray(load_predictor(model, "cpu")(tiles)).argmax(axis=1)
    for compiled in (False, True) if device != "cpu" else (False,):
        predict = load_predictor(model, device, compiled=compiled)
        label = predict_labels(predict, tiles, slice(None)).label
        found = np.asarray(label.cpu() if device != "cpu" else label)
        how = "compiled" if compiled else "eager"
        report(
            f"labels as fp32 on the CPU, {read_card(model).name}, {how}",
            f"{(found == truth).mean():.4%}",
        )


def network_alone(
    report: Report, device: str, study: Path, batches: list[int], *, compiled: bool
) -> float:
    """Measure the network alone, and return its best speed (tiles/s)."""
    best, how = 0.0, "compiled" if compiled else "eager"
    start = time.perf_counter()
    predict = load_predictor(study, device, compiled=compiled)
    assert isinstance(predict, TorchPredictor)
    logits, labels = predict._logits, partial(predict._labels, part=slice(None))
    for n in [predict.batch_size] if compiled else batches:
        tiles = torch.from_numpy(np.tile(tissue_tiles(4), (-(-n // 4), 1, 1, 1))[:n]).to(device)
        alone, both = (per_second(n, partial(do, tiles), device) for do in (logits, labels))
        report(
            f"network alone, batch {n}, {how}", f"{alone:.4g} tiles/s; with the labels {both:.4g}"
        )
        best = max(best, alone)
    if compiled:
        report("to compile it and to measure", f"{time.perf_counter() - start:.0f} s")
    return best


def from_memory(report: Report, device: str, study: Path) -> None:
    """Measure a block from tiles in the machine's memory to labels there."""
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


def _request_labels(address: str, n: int, seconds: float) -> float:
    """Send batches of tiles to a server for some seconds, and return the speed (tiles/s)."""
    predict, tiles = ServedPredictor(address), np.tile(tissue_tiles(1), (n, 1, 1, 1))
    predict.predict_labels(tiles, slice(None))
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        predict.predict_labels(tiles, slice(None))
        rounds += 1
    return n * rounds / (time.perf_counter() - start)


def server_alone(report: Report, device: str, study: Path, workers: int) -> None:
    """Measure an inference server with workers that read nothing."""
    with closing(
        InferenceServers(
            ["0"], partial(load_predictor, study, device, processes_per_gpu=CONCURRENT_BATCHES)
        )
    ) as servers:
        (address,) = servers.addresses.values()
        n = ServedPredictor(address).batch_size
        with get_context("spawn").Pool(workers) as pool:
            pool.starmap(_request_labels, [(address, n, 0.5)] * workers, chunksize=1)
            rates = pool.starmap(_request_labels, [(address, n, 4.0)] * workers, chunksize=1)
    report(
        f"inference server alone, {workers} workers that read nothing", f"{sum(rates):.4g} tiles/s"
    )


def _read(path: Path, part: int, parts: int) -> int:
    """Read some rows of a slide for a 20x model, and return the number of tiles."""
    reader = open_slide(path)
    frame = reader.info.frame.at(0.5)
    rows = range(0, frame.extent.height - TILE_PX, 2048)[part::parts]
    wide = min(8192, frame.extent.width) // TILE_PX
    for y in rows:
        reader.read(Box(y, 0, TILE_PX, wide * TILE_PX), 0.5)
    return len(rows) * wide


def reading(report: Report, path: Path, device: str, processes: list[int]) -> None:
    """Measure the reading of a 40x slide for a 20x model, and the decoding of its JPEG tiles."""
    for count in processes:
        with get_context("spawn").Pool(count) as pool:
            pool.starmap(_read, [(path, k, 64) for k in range(count)], chunksize=1)
            start = time.perf_counter()
            n = sum(
                pool.starmap(_read, [(path, k, 4 * count) for k in range(4 * count)], chunksize=1)
            )
            seconds = time.perf_counter() - start
            report(f"reading, {count} processes", f"{n / seconds:.0f} tiles/s")
    if device != "cpu":
        _decoding(report, path, device)


def _decoding(report: Report, path: Path, device: str) -> None:
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


def compiled(report: Report, path: Path, study: Path, device: str, workers: int) -> None:
    """Measure the network alone and the whole run with ``torch.compile``."""
    alone = network_alone(report, device, study, [], compiled=True)
    whole_run(
        report, path, study, alone, device=device, overlap_px=0, workers=workers, compile=True
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiles", type=int, default=16, help="number of tiles whose labels are compared"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(100_000, 80_000))
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[16, 20], help="numbers of worker processes"
    )
    parser.add_argument("--out", type=Path, help="file to which the table is written")
    a = parser.parse_args()
    report, start = Table(), time.perf_counter()
    gpu = a.device != "cpu"
    device = torch.cuda.get_device_name() if gpu else "CPU"
    report("machine", f"{device}, {cores()} cores, torch {torch.__version__}")
    width, height = a.size
    path = slide(width, height, 0.25)
    study = resnet34_unet(BUILD / "study", "study")
    alone = network_alone(report, a.device, study, [8, 16, 32, 64] if gpu else [1], compiled=False)
    run = partial(whole_run, report, path, device=a.device)
    parts: dict[str, Callable[[], object]] = {}
    for count in a.processes:
        alone_with = partial(server_alone, report, a.device, study, count)
        parts[f"server alone, {count} workers"] = alone_with
        run_with = partial(run, study, alone, overlap_px=0, workers=count)
        parts[f"whole run, {count} workers"] = run_with
    parts["reading"] = partial(reading, report, path, a.device, [1, 16] if gpu else [1, 2])
    parts["agreement"] = partial(agreement, report, a.device, a.tiles)
    if gpu:
        parts["compiled"] = partial(compiled, report, path, study, a.device, a.processes[-1])
    parts["whole run, shipped model"] = partial(run, find_model("tumor"), 0.0)
    parts["from memory"] = partial(from_memory, report, a.device, study)
    for name, measure in parts.items():
        if time.perf_counter() - start > 60 * _MINUTES - _PART_S:
            report(name, "not measured: the time is over")
        else:
            measure()
    report("all of this", f"{time.perf_counter() - start:.0f} s")
    if a.out:
        a.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
