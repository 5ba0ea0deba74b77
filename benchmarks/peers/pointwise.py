"""The trivial model as plain arrays, and a runner's command line. Needs numpy only: it runs in
every environment.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

TILE_PX = 512
MPP = 0.5
BATCH = 8
RESULT = "result.json"

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def folded(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weights ``[classes, 3]`` and bias ``[classes]`` that give the model's logits from RGB of
    0..255.

    The file's own are for RGB / 255, normalised by ImageNet's mean and standard deviation. Folding
    that in spares a peer what it would cost.
    """
    with np.load(path) as arrays:
        weight, bias = arrays["weight"].astype(np.float64), arrays["bias"].astype(np.float64)
    per_level = weight / np.multiply(_IMAGENET_STD, 255)
    offset = bias - weight @ np.divide(_IMAGENET_MEAN, _IMAGENET_STD)
    return per_level.astype(np.float32), offset.astype(np.float32)


def main(peer: str, segment: Callable[[Path, Path, Path], int]) -> None:
    """Command line of a runner: ``--slide S --model W.npz --work FOLDER``.

    Args:
        peer: its name on PyPI.
        segment: takes slide, weights and an empty folder that its result goes to; returns how many
            tiles it predicted.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    a = parser.parse_args()
    start = time.perf_counter()
    tiles = segment(a.slide, a.model, a.work)
    seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e6 / 1024
    )
    text = json.dumps(
        {
            "version": version(peer),
            "seconds": round(seconds, 2),
            "tiles": tiles,
            "peak_mb": round(peak_mb),
        }
    )
    (a.work / RESULT).write_text(text)
    print(text)
