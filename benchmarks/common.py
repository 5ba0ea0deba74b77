"""Shared parts of the benchmarks: a model without a network, a slide, and alternating timing."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from noctile.pipeline.models.folder import WEIGHTS, write_card, write_config

BUILD = Path("build/benchmarks")
"""Folder in which slides and models are made once."""


def trivial_model(folder: Path, classes: int = 21, mpp: float = 0.5, overlap_px: int = 128) -> Path:
    """Write a model folder with a 1x1 convolution and tiles of 512 px.

    The weights of `noctile.pipeline.models.network.Pointwise` are drawn from a seed and spread, so
    that each class is predicted somewhere. ``weights.npz`` in the folder has them for other
    programs (``weight`` [classes, 3], ``bias`` [classes]; RGB / 255, ImageNet mean and standard
    deviation).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((classes, 3)).astype(np.float32)
    bias = rng.standard_normal(classes).astype(np.float32)
    write_config(folder, {"_model_class": "Pointwise", "classes": classes})
    safetensors.numpy.save_file(
        {"weight": weight[:, :, None, None], "bias": bias}, folder / WEIGHTS
    )
    np.savez(folder / "weights.npz", weight=weight, bias=bias)
    infos = [
        {
            "code": k,
            "name": f"class_{k}",
            "color": (k, 5 * k, 255 - k),
            "role": "tumor" if k == 1 else "tissue",
        }
        for k in range(1, classes + 1)
    ]
    about = {"name": "trivial", "description": "each pixel by its own colour", "licence": "CC0-1.0"}
    write_card(folder, {**about, "classes": infos, "mpp": mpp, "overlap_px": overlap_px})
    return folder


def resnet34_unet(folder: Path, name: str, *, random_statistics: bool = False) -> Path:
    """Make the folder of a ResNet34 U-Net of 21 classes with seeded weights, once.

    Args:
        folder: Folder of the model.
        name: Name of the model in its card.
        random_statistics: True for random batch statistics too, so that several classes are
            predicted.
    """
    if (folder / "card.json").exists():
        return folder
    import segmentation_models_pytorch as smp
    import torch

    from noctile.pipeline.models.network import save_model

    torch.manual_seed(0)
    network = smp.Unet("resnet34", encoder_weights=None, classes=21)
    for module in network.modules() if random_statistics else ():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    classes = [
        {"code": k, "name": f"class_{k}", "color": (k, k, k), "role": "tissue"}
        for k in range(1, 22)
    ]
    about = {"name": name, "description": "seeded", "mpp": 0.5, "licence": "CC0-1.0"}
    save_model(folder, network, {**about, "classes": classes})
    return folder


def slide(
    width: int = 24_000, height: int = 20_000, mpp: float = 0.5, tissue: float = 0.35
) -> Path:
    """Return a generated slide (`benchmarks.make_slide`), which is made once."""
    path = BUILD / f"slide-{width}x{height}-{mpp:g}-{tissue:g}.tif"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        values = {"width": width, "height": height, "tissue": tissue, "mpp": mpp}
        options = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        program = [sys.executable, "-m", "benchmarks.make_slide", str(part), *options]
        subprocess.run(program, check=True)
        part.rename(path)
    return path


def side_by_side(
    work: Mapping[str, Callable[[], object]], runs: int = 3
) -> dict[str, tuple[float, float]]:
    """Time pieces of work in turn, so that all meet the same state of the machine.

    Args:
        work: functions to time, by name.
        runs: number of rounds.

    Returns:
        Medians of (wall, CPU of this process) time (s), by name.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(runs):
        for name, do in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            do()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(w for w, _ in pairs), statistics.median(c for _, c in pairs))
        for name, pairs in taken.items()
    }


def machine() -> str:
    """Describe the machine and its load in one line."""
    load = os.getloadavg()[0]
    return f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}"
