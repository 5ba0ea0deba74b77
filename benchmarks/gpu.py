"""The GPU path, checked and timed in less than 8 minutes on one machine, without a network.

    python -m benchmarks.gpu [--full] [--out gpu.md]

On a machine without a network, install from wheels first; on one that has it, with the same Python and system:

    pip download -c constraints.txt -d wheels '.[test]'      # there; about 4 GB, most of it torch with CUDA
    pip install --no-index --find-links wheels noctile       # here

Prints, and writes as a table:

1. agreement: labels of fp16 on the GPU against fp32 on the CPU, eager and compiled, on generated tissue (>= 99.9 %);
2. tiles/s of a ResNet34 U-Net of 21 classes in fp16, tiles already on the GPU, by batch, eager and compiled;
3. the same from the machine's memory: up, through the network, joined, labels down;
4. reading: tiles/s of a 40x slide for a 20x model by number of threads, on the CPU; JPEG tiles/s on the GPU;
5. the whole run on a 40x slide, 50,000 x 40,000 px with tissue on 35 % (``--full``: 100,000 x 80,000): seconds, tiles/s
   and their ratio to the network alone, how busy the GPU was.

``--device cpu --tiles 2`` runs the script itself where there is no GPU, to see that it works.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
import torchvision  # type: ignore[import-untyped]
from tifffile import TiffFile

from benchmarks.common import BUILD, slide
from pipeline.blend import Canvas
from pipeline.geometry import Box, Extent
from pipeline.models.load import find_model, load_predictor, read_card
from pipeline.models.unet import UNetPredictor, save_model
from pipeline.plan import TileGrid
from pipeline.slides.find import find_slides
from pipeline.slides.open import open_slide
from sample_slides.generate import make_region
from workflows.config import RunSettings
from workflows.segment import run_night

UInt8 = npt.NDArray[np.uint8]
TILE_PX = 512


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
        classes = [{"code": k, "name": f"class_{k}", "color": (k, k, k), "role": "tissue"} for k in range(1, 22)]
        about = {"name": "study", "description": "seeded", "classes": classes, "mpp": 0.5, "licence": "CC0-1.0"}
        save_model(folder, network, about)
    return folder


def tissue_tiles(n: int) -> UInt8:
    """Generated tissue, uint8 ``[n, 512, 512, 3]``."""
    side = int(np.ceil(np.sqrt(n)))
    region = make_region(7, side * TILE_PX, side * TILE_PX, 0.5)[0]
    tiles = region.reshape(side, TILE_PX, side, TILE_PX, 3).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX, 3)
    return np.ascontiguousarray(tiles[:n])


def per_second(n: int, do: Callable[[], object], device: str, seconds: float = 3.0) -> float:
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


def agreement(report: Report, device: str, n_tiles: int, study: Path) -> None:
    """Labels on the device against fp32 on the CPU."""
    tiles = tissue_tiles(n_tiles)
    for model in (find_model("tumor"), study):
        truth = np.asarray(load_predictor(model, "cpu")(tiles)).argmax(axis=1)
        for compiled in (False, True) if device != "cpu" else (False,):
            found = load_predictor(model, device, compiled=compiled)(tiles).argmax(dim=1).cpu().numpy()
            how = "compiled" if compiled else "eager"
            report(f"labels as fp32 on the CPU, {read_card(model).name}, {how}", f"{(found == truth).mean():.4%}")


def network_alone(report: Report, device: str, study: Path, batches: list[int]) -> float:
    """Tiles per second of the network alone; the best."""
    best = 0.0
    for compiled in (False, True) if device != "cpu" else (False,):
        predict = load_predictor(study, device, compiled=compiled)
        assert isinstance(predict, UNetPredictor)
        for n in [predict.batch_size] if compiled else batches:
            tiles = torch.from_numpy(np.tile(tissue_tiles(1), (n, 1, 1, 1))).to(device)
            rate = per_second(n, partial(predict._probabilities, tiles), device)
            report(f"network alone, batch {n}, {'compiled' if compiled else 'eager'}", f"{rate:.3g} tiles/s")
            best = max(best, rate)
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
        canvas = Canvas(box, grid, "crop", list(range(1, 22)), [0], inside)
        canvas.add([(0, k) for k in range(n)], predict(tiles))
        canvas.finish()

    report(f"from memory to labels, batch {n}", f"{per_second(n, block, device):.3g} tiles/s")


def reading(report: Report, path: Path, device: str, threads: list[int]) -> None:
    """Tiles per second off a 40x slide for a 20x model."""
    frame = open_slide(path).info.frame.at(0.5)
    rows = [Box(y, 0, TILE_PX, min(8192, frame.extent.width)) for y in range(0, frame.extent.height - TILE_PX, 2048)]
    n = len(rows) * rows[0].width / TILE_PX
    for count in threads:
        reader = open_slide(path, threads=count)
        start = time.perf_counter()
        for row in rows:
            reader.read(row, 0.5)
        report(f"reading, {count} threads", f"{n / (time.perf_counter() - start):.0f} tiles/s")
        reader.close()
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
    report("JPEG tiles of 256 px decoded on the GPU", f"{rate:.0f} /s = {rate / 16:.0f} tiles of a 20x model /s")


def whole_run(report: Report, path: Path, device: str, study: Path, alone: float) -> None:
    """The run as a user starts it."""
    for model, name in ((study, "ResNet34 U-Net, 21 classes"), (find_model("tumor"), "tumor")):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            settings = RunSettings(model=str(model), device=device, overlap_px=0)
            result = run_night(find_slides([path], None, None), settings, Path(scratch), lambda *_: None)
            seconds = time.perf_counter() - start
            lines = [json.loads(line) for line in (Path(scratch) / "ledger.jsonl").read_text().splitlines()]
        tiles = result.rows[0].summary["tiles"]
        work = sum(line.get("seconds", 0.0) for line in lines if line["event"] == "segment")
        report(f"whole run, {name}", f"{seconds:.1f} s, {tiles} tiles, {tiles / seconds:.3g} tiles/s from start to end")
        report("its blocks", f"{work:.1f} s of work in all jobs")
        if model == study and alone:
            report("tiles/s from start to end / network alone", f"{tiles / seconds / alone:.1%}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiles", type=int, default=16, help="tiles whose labels are compared")
    parser.add_argument("--full", action="store_true", help="the whole run on a slide of 100,000 x 80,000 px")
    parser.add_argument("--size", type=int, nargs=2, default=(50_000, 40_000))
    parser.add_argument("--out", type=Path, help="write the table here")
    a = parser.parse_args()
    report, start = Report(), time.perf_counter()
    name = torch.cuda.get_device_name() if a.device != "cpu" else "CPU"
    report("machine", f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    study = study_model(BUILD / "study")
    agreement(report, a.device, a.tiles, study)
    alone = network_alone(report, a.device, study, [8, 16, 32, 64] if a.device != "cpu" else [1])
    from_memory(report, a.device, study)
    width, height = (100_000, 80_000) if a.full else a.size
    path = slide(width, height, 0.25)
    reading(report, path, a.device, [1, 2, 4, 8, 16] if a.device != "cpu" else [1, 2])
    whole_run(report, path, a.device, study, alone)
    report("all of this", f"{time.perf_counter() - start:.0f} s")
    if a.out:
        a.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
