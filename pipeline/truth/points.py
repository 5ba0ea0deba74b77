"""Points whose classes are known: each labels a disc inside the cell on which it was set."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

POINT_RADIUS_UM: Final = 5.0
"""Radius of the disc that a point labels (um).

A tumor cell is 15 to 20 um wide, its nucleus 8 to 12 um. The disc of a point that was set on a
nucleus stays within its cell, and is as wide as the nucleus."""

POINT_CONTEXT_PX: Final = 512
"""Surroundings of a point that are read for training, to each side (px of level 0).

At 0.25 um per pixel they are a crop of 512 pixels at 0.5 um, the default of a training."""

Part = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Rows and columns of some pixels."""


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
