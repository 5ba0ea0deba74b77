"""Averages of a level's pixels at another pixel size, independent of the box that is read.

Every weight is a whole number computed from a pixel's position in its frame, and sums of whole
numbers do not depend on their order. So a pixel has the same value, bit for bit, in every box or
strip.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # imports its parts on first use: a search for slides needs none of them
from PIL import Image

from noctile.pipeline.arrays import Int64, UInt8

WHOLE_TOLERANCE = 1e-9
"""Largest difference from a whole number at which a ratio or offset counts as that number. Only the
rounding of a division is smaller."""

_ONE = 1 << 12
"""Sum of the weights of a pixel along an axis with fractional weights: 255 * 2**12 * 2**12 fits
uint32."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Source pixels of a range of target pixels along one axis, and their weights.

    Attributes:
        start: first source pixel (px of the level).
        stop: source pixel after the last one (px of the level).
        factor: number of source pixels of equal weight in a target pixel; None for other weights.
        total: sum of the weights of one target pixel.
        weights: whole numbers, sparse ``[target pixels, stop - start]``; None with a factor.
    """

    start: int
    stop: int
    factor: int | None
    total: int
    weights: "scipy.sparse.csr_array | None"


def make_taps(start: int, stop: int, ratio: float, origin: float, length: int) -> Taps:
    """Compute the weights of target pixels ``start..stop`` along one axis.

    Args:
        start: first target pixel.
        stop: target pixel after the last one, greater than ``start``.
        ratio: source pixels in a target pixel. From 1 up, a target pixel is the mean of the source
            pixels that it covers, weighted by area. Below 1, it is interpolated linearly between
            the nearest two, or equals the last one at the rim.
        origin: position of target pixel 0 (px of the level).
        length: number of source pixels of the level.
    """
    factor = round(ratio)
    if (
        factor >= 1
        and abs(ratio - factor) < WHOLE_TOLERANCE
        and abs(origin - round(origin)) < WHOLE_TOLERANCE
    ):
        first = round(origin) + start * factor
        return Taps(first, first + (stop - start) * factor, factor, factor, None)
    target = np.arange(start, stop)[:, None]
    if ratio > 1:
        edge = origin + target * ratio
        index = np.floor(edge).astype(np.int64) + np.arange(math.ceil(ratio) + 2)
        covered = np.rint(np.clip((index - edge) / ratio, 0, 1) * _ONE).astype(np.int64)
        return _sparse_taps(index[:, :-1], np.diff(covered, axis=1))
    centre = origin + (target + 0.5) * ratio - 0.5
    lower = np.floor(centre).astype(np.int64)
    share = np.rint((centre - lower) * _ONE).astype(np.int64)
    return _sparse_taps(
        np.clip(np.hstack([lower, lower + 1]), 0, length - 1), np.hstack([_ONE - share, share])
    )


def average(pixels: UInt8, rows: Taps, cols: Taps) -> UInt8:
    """Average source pixels with weights along both axes, rounded half up.

    Args:
        pixels: source pixels, uint8 ``[rows.stop - rows.start, cols.stop - cols.start, 3]``.
        rows: weights of the target's rows.
        cols: weights of the target's columns.

    Returns:
        uint8 ``[target rows, target columns, 3]``; the array ``pixels`` itself if each target pixel
        is one source pixel.
    """
    if rows.factor == cols.factor == 1:
        return pixels
    if rows.factor and cols.factor and _is_power_of_two(rows.factor * cols.factor):
        # Pillow is several times faster. It multiplies by a truncated reciprocal, which is exact
        # for powers of two only.
        return np.asarray(Image.fromarray(pixels).reduce((cols.factor, rows.factor)))
    total = rows.total * cols.total
    sums = _along_first(cols, _along_first(rows, pixels).transpose(1, 0, 2)).transpose(1, 0, 2)
    mean: UInt8 = ((sums + np.uint32(total // 2)) // np.uint32(total)).astype(np.uint8)
    return mean


def _sparse_taps(index: Int64, weight: Int64) -> Taps:
    """Make taps from source pixels and weights, both ``[target pixels, taps]``.

    A source pixel of weight 0 is not needed.
    """
    used = weight > 0
    start, stop = int(index[used].min()), int(index[used].max()) + 1
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    matrix = scipy.sparse.csr_array(
        (weight[used].astype(np.uint32), index[used] - start, ends),
        shape=(len(index), stop - start),
    )
    return Taps(start, stop, None, _ONE, matrix)


def _along_first(axis: Taps, values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint32]:
    """Weighted sums along the first axis: ``[source, other, 3]`` to ``[target, other, 3]``."""
    sums: npt.NDArray[np.uint32]
    if axis.weights is None:
        sums = values.reshape(-1, axis.total, *values.shape[1:]).sum(axis=1, dtype=np.uint32)
        return sums
    flat = np.ascontiguousarray(values, np.uint32).reshape(len(values), -1)
    sums = (axis.weights @ flat).reshape(-1, *values.shape[1:])
    return sums


def _is_power_of_two(n: int) -> bool:
    return n & (n - 1) == 0
