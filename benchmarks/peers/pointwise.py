"""Trivial model as plain arrays, and the command line of all runners.

The module needs numpy alone, so that it runs in every environment.
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
    """Return weights ``[classes, 3]`` and bias ``[classes]`` for RGB values of 0..255.

    The weights of the file are for RGB / 255, normalized by the mean and standard deviation of
    ImageNet. With the normalization folded in, no peer spends time on it.
    """
    with np.load(path) as arrays:
        weight, bias = arrays["weight"].astype(np.float64), arrays["bias"].astype(np.float64)
    per_level = weight / np.multiply(_IMAGENET_STD, 255)
    offset = bias - weight @ np.divide(_IMAGENET_MEAN, _IMAGENET_STD)
    return per_level.astype(np.float32), offset.astype(np.float32)


def main(peer: str, segment: Callable[[Path, Path, Path], int]) -> None:
    """Run the command line of a runner: ``--slide S --model W.npz --work FOLDER``.

    Args:
        peer: name of the peer on PyPI.
        segment: function of slide, weights and an empty folder for the result; returns the number
            of tiles that were predicted.
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
