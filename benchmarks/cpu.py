"""Ways to compute a network without a GPU: torch, compiled torch, OpenVINO, ONNX Runtime.

    python -m benchmarks.cpu [SLIDES ...] [--manifest CSV] [--mpp UM] [--threads 2] [--rounds 7]
        [--only NAME ...]

Measured are the shipped model (EfficientNet-Lite0 U-Net, 2 classes) and a ResNet34 U-Net of 21
classes with seeded weights, on tiles of tissue of SLIDES (default: the samples; images in folders
are read too). Each way has a process of its own, all with the same number of threads. They predict
the same tiles in turn, round by round, while the others wait. The columns are:

- start: time from the network in memory to the first prediction, alone on the machine, without the
  import of torch (s);
- tiles/s: median of the rounds; "x torch" is the ratio to Noctile's torch backend, and "CPU s" the
  CPU time of all threads of the process;
- memory: highest resident memory of the process, torch included (MB);
- labels: share of pixels with the same label as by the torch backend;
- same bits: "yes" if the probabilities of a tile are the same alone, in a batch, at another
  position of a batch, and with one thread.

A way whose package is not installed is skipped with a message. ONNX Runtime (with onnx and
onnxscript) is no extra of Noctile; OpenVINO comes with Noctile. Integers of 8 bits are not
measured: they need a calibration on the user's tissue.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.common import BUILD, machine, resnet34_unet
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Predict = Callable[[UInt8], Any]

TORCH = "torch, a thread a tile (Noctile)"


def torch_now(card: ModelCard, network: Any, threads: int) -> Predict:
    """Noctile's torch backend."""
    from noctile.pipeline.models.torch_predictor import TorchPredictor

    return TorchPredictor(card, network, threads=threads)


def torch_together(card: ModelCard, network: Any, threads: int) -> Predict:
    """Torch with all threads in each forward pass."""
    import torch

    from noctile.pipeline.models.network import TilesToLogits

    torch.set_num_threads(threads)
    whole = _with_softmax(TilesToLogits(card, network.to(memory_format=torch.channels_last)))
    return lambda tiles: np.concatenate([_run_torch(whole, tile[None]) for tile in tiles])


def torch_frozen(card: ModelCard, network: Any, threads: int) -> Predict:
    """Torch, traced and frozen: normalisations are folded into the convolutions."""
    import torch

    from noctile.pipeline.models.network import TilesToLogits

    whole = _with_softmax(TilesToLogits(card, network.to(memory_format=torch.channels_last)))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(whole, _blank(card), check_trace=False)  # type: ignore[no-untyped-call]
        frozen = torch.jit.freeze(traced)
    return _each(partial(_run_torch, frozen), threads)


def torch_compiled(card: ModelCard, network: Any, threads: int) -> Predict:
    """``torch.compile`` with freezing; needs a C++ compiler on the machine."""
    import torch
    from torch._inductor import config

    from noctile.pipeline.models.network import TilesToLogits

    config.freezing = True
    whole = _with_softmax(TilesToLogits(card, network.to(memory_format=torch.channels_last)))
    compiled = torch.compile(whole, dynamic=False)
    torch.set_num_threads(1)
    _run_torch(compiled, _blank(card).numpy())  # compiles before threads start
    return _each(partial(_run_torch, compiled), threads)


def openvino_now(card: ModelCard, network: Any, threads: int) -> Predict:
    """Noctile's OpenVINO backend."""
    from noctile.pipeline.models.openvino import OpenVinoPredictor

    return OpenVinoPredictor(card, network, threads)


def openvino_with(
    card: ModelCard, network: Any, threads: int, *, streams: int, precision: str
) -> Predict:
    """OpenVINO with other settings.

    They hold until the process ends: OpenVINO compiles a model at its first prediction.
    """
    predict = openvino_now(card, network, threads)

    import openvino  # isort: skip - after Noctile's module, which turns telemetry off

    compile_model = openvino.Core.compile_model

    def changed(core: Any, model: Any, device: str, how: dict[str, Any]) -> Any:
        return compile_model(
            core,
            model,
            device,
            how | {"NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": precision},
        )

    mock.patch.object(openvino.Core, "compile_model", changed).start()
    return predict


def onnxruntime(card: ModelCard, network: Any, threads: int, *, at_once: int) -> Predict:
    """ONNX Runtime, ``at_once`` tiles in one session, with the threads divided among them."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort
    import torch

    from noctile.pipeline.models.network import TilesToLogits

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "model.onnx")
        whole = _with_softmax(TilesToLogits(card, network))
        torch.onnx.export(
            whole, (_blank(card),), path, input_names=["tiles"], dynamo=True, verbose=False
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads // at_once
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return _each(lambda tile: session.run(None, {"tiles": tile})[0], at_once)


def _with_softmax(network: Any) -> Any:
    import torch

    return torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval()


def _blank(card: ModelCard) -> Any:
    import torch

    return torch.zeros(1, card.tile_px, card.tile_px, 3, dtype=torch.uint8)


def _run_torch(whole: Any, tile: UInt8) -> Float32:
    import torch

    with torch.no_grad():
        probabilities: Float32 = whole(torch.from_numpy(np.array(tile))).numpy()
    return probabilities


def _each(predict_tile: Callable[[UInt8], Float32], at_once: int) -> Predict:
    """Predict tile by tile, ``at_once`` at the same time; torch uses one thread for each."""
    import torch

    pool = ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,))
    return lambda tiles: np.concatenate(
        list(pool.map(predict_tile, [tile[None] for tile in tiles]))
    )


def ways(threads: int) -> dict[str, Callable[[ModelCard, Any, int], Predict]]:
    """Return the ways that are compared, by name; the first is the reference of the others."""
    found: dict[str, Callable[[ModelCard, Any, int], Predict]] = {
        TORCH: torch_now,
        "torch, all threads a tile": torch_together,
        "torch, traced and frozen": torch_frozen,
        "torch.compile, frozen": torch_compiled,
        "OpenVINO, a thread a tile (Noctile)": openvino_now,
        "OpenVINO, all threads a tile": partial(openvino_with, streams=1, precision="f32"),
        "ONNX Runtime, a thread a tile": partial(onnxruntime, at_once=threads),
        "ONNX Runtime, all threads a tile": partial(onnxruntime, at_once=1),
    }
    if "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        found["OpenVINO in bfloat16"] = partial(openvino_with, streams=threads, precision="bf16")
    return found


@dataclass(frozen=True)
class Case:
    """Model with the tiles that it predicts.

    Attributes:
        name: name of the model.
        folder: folder of the model.
        tiles: file of the tiles, uint8 ``[n, tile_px, tile_px, 3]``.
        batch: number of tiles in a round.
    """

    name: str
    folder: Path
    tiles: Path
    batch: int


def serve(pipe: Connection, way: str, case: Case, threads: int) -> None:
    """Make a predictor, and answer requests until None is received."""
    warnings.simplefilter("ignore")
    from noctile.pipeline.models.network import load_network

    tiles, card = np.load(case.tiles), read_card(case.folder)
    make = ways(threads)[way]
    network, start = load_network(case.folder), time.perf_counter()
    try:
        predict = make(card, network, threads)
    except ImportError as error:
        pipe.send(f"{error.name} is not installed")
        return
    np.asarray(predict(tiles[:1]))
    pipe.send(time.perf_counter() - start)
    predict(tiles[:threads])
    while (request := pipe.recv()) is not None:
        if request == "labels":
            labels = [
                np.asarray(predict(tile[None])).argmax(axis=1).astype(np.uint8) for tile in tiles
            ]
            pipe.send(np.concatenate(labels))
        elif request == "bits":
            pipe.send(
                _same_bits(predict, partial(make, card, load_network(case.folder), 1), tiles[:4])
            )
        else:
            part = tiles[np.arange(request, request + case.batch) % len(tiles)]
            wall, cpu = time.perf_counter(), time.process_time()
            for k in range(0, case.batch, threads):
                np.asarray(predict(part[k : k + threads]))
            pipe.send((time.perf_counter() - wall, time.process_time() - cpu, _peak_mb()))


def _same_bits(predict: Predict, make_single: Callable[[], Predict], tiles: UInt8) -> bool:
    alone = np.concatenate([np.asarray(predict(tile[None])) for tile in tiles])
    turned = np.ascontiguousarray(tiles[::-1])
    others = predict(tiles), np.asarray(predict(turned))[::-1], make_single()(tiles)
    return all(np.array_equal(np.asarray(other), alone) for other in others)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def compare(case: Case, names: list[str], threads: int, rounds: int) -> None:
    """Measure a model in all ways, and print its rows of the table."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    starts: dict[str, float] = {}
    for name in names:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, name, case, threads), daemon=True).start()
        theirs.close()
        if isinstance(response := ours.recv(), str):
            print(f"| {case.name} | {name} | skipped: {response} |" + " |" * 6, flush=True)
        else:
            pipes[name], starts[name] = ours, response
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pipes}
    for k in range(rounds):
        for name, pipe in pipes.items():
            taken[name].append(_request(pipe, k * case.batch))
    walls = {
        name: statistics.median(wall for wall, _, _ in t) / case.batch for name, t in taken.items()
    }
    truth = _request(pipes[TORCH], "labels")
    for name, pipe in pipes.items():
        cpu = statistics.median(cpu for _, cpu, _ in taken[name]) / case.batch
        equal = np.mean(_request(pipe, "labels") == truth)
        cells = [case.name, name, f"{starts[name]:.1f}", f"{1 / walls[name]:.2f}"]
        cells += [f"{walls[TORCH] / walls[name]:.2f}", f"{cpu:.3f}", f"{taken[name][-1][2]:.0f}"]
        cells += [f"{equal:.4%}", "yes" if _request(pipe, "bits") else "no"]
        print(f"| {' | '.join(cells)} |", flush=True)
        pipe.send(None)


def _request(pipe: Connection, request: Any) -> Any:
    pipe.send(request)
    return pipe.recv()


def tissue_tiles(
    slides: list[Path], manifest: Path | None, mpp: float | None, card: ModelCard, n: int
) -> UInt8:
    """Read ``n`` tiles at even distances from all tiles that a run without overlap would plan."""
    tiling = Tiling(card.mpp, card.tile_px, 0, "crop", 4096, len(card.classes))
    tiles = []
    slides, images = (slides, True) if slides or manifest else ([Path("sample_slides")], False)
    for entry in find_slides(slides, manifest, mpp, images=images).slides:
        with closing(open_slide(entry.path, slide_id=entry.slide_id, mpp=entry.mpp)) as reader:
            spec = TissueSpec()
            tissue = find_tissue(*read_thumbnail(reader, spec.mpp), spec)
            plan = plan_tiles(entry.slide_id, reader.info.frame, tissue, tiling)
            boxes = [plan.grid.tile(*position) for block in plan.blocks for position in block.tiles]
            tiles += [reader.read(box, plan.mpp) for box in boxes]
    chosen = np.linspace(0, len(tiles) - 1, min(n, len(tiles))).round().astype(int)
    return np.stack([tiles[k] for k in chosen])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument(
        "--manifest", type=Path, help="CSV with the pixel size of slides that state none"
    )
    parser.add_argument("--mpp", type=float, help="pixel size of slides that state none (um)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="ways whose name contains one of these"
    )
    a = parser.parse_args()
    names = [
        name for name in ways(a.threads) if name == TORCH or any(part in name for part in a.only)
    ]
    shipped = find_model("tumor")
    print(f"{machine()}, {a.threads} threads, Python {sys.version.split()[0]}\n")
    columns = "start s | tiles/s | x torch | CPU s/tile | memory MB | labels | same bits"
    print(f"| model | way | {columns} |\n|" + "---|" * 9)
    with tempfile.TemporaryDirectory() as scratch:
        models = (
            ("tumor", shipped, 64, 8),
            (
                "resnet34, 21 classes",
                resnet34_unet(BUILD / "resnet34", "resnet34", random_statistics=True),
                8,
                4,
            ),
        )
        for name, folder, n, batch in models:
            path = Path(scratch) / "tiles.npy"
            np.save(path, tissue_tiles(a.slides, a.manifest, a.mpp, read_card(folder), n))
            compare(Case(name, folder, path, batch), names, a.threads, a.rounds)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
