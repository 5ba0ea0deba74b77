"""Optical density of images, and statistics of the three channels of each pixel.

Images are taken in *planes*, one array for each channel: computing on three planes is many times
faster than computing on channels that lie side by side.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from noctile.pipeline.arrays import Float32, UInt8

_STRIP_PX = 2**15
"""Number of pixels that are computed at once, so that they stay in a processor core's cache."""

_Planes = TypeVar("_Planes", UInt8, Float32)


def by_strips(image: UInt8, function: Callable[[UInt8], Any]) -> Any:
    """Apply a function to an image, strip by strip; the function treats each pixel alone.

    Args:
        image: uint8 ``[h, w, 3]``.
        function: takes planes, uint8 ``[3, rows, w]``, and returns ``[rows, w]``.

    Returns:
        the function's result for the whole image, ``[h, w]``.
    """
    rows = max(1, _STRIP_PX // image.shape[1])
    strips = (image[y : y + rows] for y in range(0, image.shape[0], rows))
    planes = (np.ascontiguousarray(np.moveaxis(strip, -1, 0)) for strip in strips)
    return np.concatenate([function(strip) for strip in planes])


def density_table(glass: Float32) -> Float32:
    """Return the optical density of every level of every channel, not below 0.

    Args:
        glass: float32 ``[3]``, levels of R, G and B (0..255) through empty glass.

    Returns:
        float32 ``[256, 3]``.
    """
    levels = np.arange(256, dtype=np.float32)[:, None]
    return np.asarray(np.maximum(np.log10((glass + 1) / (levels + 1)), 0), np.float32)


def density_of(planes: UInt8, table: Float32) -> Float32:
    """Return the optical density of planes, looked up in a table of `density_table`."""
    return np.stack([table[:, k].take(planes[k]) for k in range(3)])


def smallest(planes: _Planes) -> _Planes:
    """Return the smallest of the three channels of each pixel."""
    return np.minimum(np.minimum(planes[0, ...], planes[1, ...]), planes[2, ...])


def largest(planes: _Planes) -> _Planes:
    """Return the largest of the three channels of each pixel."""
    return np.maximum(np.maximum(planes[0, ...], planes[1, ...]), planes[2, ...])


def spread(planes: _Planes) -> _Planes:
    """Return the largest minus the smallest of the three channels of each pixel."""
    return largest(planes) - smallest(planes)


def mean(planes: Float32) -> Float32:
    """Return the mean of the three channels of each pixel."""
    return (planes[0, ...] + planes[1, ...] + planes[2, ...]) / np.float32(3)
