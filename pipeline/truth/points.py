"""Points whose classes are known: each labels a disc inside the cell on which it was set."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import Float64, UInt8

POINT_RADIUS_UM: Final = 5.0
"""Radius of the disc that a point labels (um).

A tumor cell is 15 to 20 um wide, its nucleus 8 to 12 um. The disc of a point that was set on a
nucleus stays within its cell, and is as wide as the nucleus."""

POINT_CONTEXT_PX: Final = 512
"""Surroundings of a point that are read for training, to each side (px of level 0).

At 0.25 um per pixel they are a crop of 512 pixels at 0.5 um, the default of a training."""

POINT: Final = 128
"""Added to a class's number in the pixels of a point, where training targets hold both."""

Part = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Rows and columns of some pixels."""


def mark_points(targets: UInt8, points: Float64, mpp: float) -> UInt8:
    """Mark the pixels of points in training targets, so that the loss can weigh them.

    Args:
        targets: number of each pixel's class, or `IGNORED`, uint8 ``[h, w]``.
        points: points, float64 ``[n, 2]``, y and x (px of the targets).
        mpp: size of a pixel (um).

    Returns:
        uint8 ``[h, w]``: `POINT` is added to the classes of the pixels in the points' discs.
    """
    marked = targets.copy()
    for y, x in points:
        marked[disc((y, x), mpp, targets.shape)] |= POINT  # IGNORED stays as it is
    return marked


def disc(at: tuple[float, float], mpp: float, shape: tuple[int, ...]) -> Part:
    """Find the pixels of a point's disc: those whose centres are within `POINT_RADIUS_UM`.

    The pixel that holds the point is always among them, at coarse pixel sizes alone.

    Args:
        at: y and x of the point (px of the image).
        mpp: pixel size of the image (um).
        shape: height and width of the image (px).

    Returns:
        Rows and columns, which are the index of the disc in an array; empty outside of the image.
    """
    radius = POINT_RADIUS_UM / mpp
    rows, cols = (
        np.arange(max(0, math.floor(value - radius)), min(side, math.ceil(value + radius) + 1))
        for value, side in zip(at, shape, strict=True)
    )
    y, x = np.meshgrid(rows, cols, indexing="ij")
    inside = np.hypot(y + 0.5 - at[0], x + 0.5 - at[1]) <= radius
    inside |= (y == math.floor(at[0])) & (x == math.floor(at[1]))
    return y[inside], x[inside]
