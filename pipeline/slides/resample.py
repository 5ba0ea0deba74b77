"""From a level's pixels to another pixel size: averages that do not depend on the box that is read.

Every weight is a whole number computed from a pixel's place in its frame, and sums of whole numbers
do not depend on their order. So a pixel has the same value, bit for bit, whatever box or strip it
is computed with.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # it imports its parts when they are used: to name slides takes none of them
from PIL import Image

from noctile.pipeline.arrays import Int64, UInt8

WHOLE_TOLERANCE = 1e-9
"""Ratios and offsets closer than this to a whole number are that number: the rounding of a
division, nothing else."""

_ONE = 1 << 12
"""What the weights of a pixel sum to along an axis where they are fractions: 255 * 2**12 * 2**12
still fits uint32."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Which source pixels make up the pixels of a target range along one axis, and how much each
    counts.

    Attributes:
        start: first source pixel that is needed (px of the level).
        stop: the one after the last.
        factor: how many source pixels make one, each counting the same; None where weights are
            fractions.
        total: what the weights of one target pixel sum to.
        weights: whole numbers, sparse ``[target pixels, stop - start]``; None where a factor says
            it all.
    """

    start: int
    stop: int
    factor: int | None
    total: int
    weights: "scipy.sparse.csr_array | None"


def make_taps(start: int, stop: int, ratio: float, origin: float, length: int) -> Taps:
    """How target pixels ``start..stop`` of one axis are made.

    Args:
        start: first target pixel.
        stop: the one after the last, greater than ``start``.
        ratio: source pixels in a target pixel. From 1 up the pixels under it are averaged by the
            area that it covers; below, it is interpolated linearly between the nearest two (at the
            rim: the last one).
        origin: where target pixel 0 begins (px of the level).
        length: number of pixels that the level has.
    """
    factor = round(ratio)
    if (
        factor >= 1
        and abs(ratio - factor) < WHOLE_TOLERANCE
        and abs(origin - round(origin)) < WHOLE_TOLERANCE
    ):
        first = round(origin) + start * factor
        return Taps(first, first + (stop - start) * factor, factor, factor, None)
    place = np.arange(start, stop)[:, None]
    if ratio > 1:
        edge = origin + place * ratio
        index = np.floor(edge).astype(np.int64) + np.arange(math.ceil(ratio) + 2)
        covered = np.rint(np.clip((index - edge) / ratio, 0, 1) * _ONE).astype(np.int64)
        return _make_taps(index[:, :-1], np.diff(covered, axis=1))
    centre = origin + (place + 0.5) * ratio - 0.5
    lower = np.floor(centre).astype(np.int64)
    share = np.rint((centre - lower) * _ONE).astype(np.int64)
    return _make_taps(
        np.clip(np.hstack([lower, lower + 1]), 0, length - 1), np.hstack([_ONE - share, share])
    )


def average(pixels: UInt8, rows: Taps, cols: Taps) -> UInt8:
    """Weighted averages, rounded half up.

    Args:
        pixels: uint8 ``[rows.stop - rows.start, cols.stop - cols.start, 3]``.
        rows: of the target.
        cols: likewise.

    Returns:
        uint8 ``[target rows, target columns, 3]``; ``pixels`` themselves where one source pixel
        makes one.
    """
    if rows.factor == cols.factor == 1:
        return pixels
    if rows.factor and cols.factor and _is_power_of_two(rows.factor * cols.factor):
        # Pillow multiplies by a truncated reciprocal: exact for powers of two only, and there
        # several times faster.
        return np.asarray(Image.fromarray(pixels).reduce((cols.factor, rows.factor)))
    total = rows.total * cols.total
    sums = _along_first(cols, _along_first(rows, pixels).transpose(1, 0, 2)).transpose(1, 0, 2)
    mean: UInt8 = ((sums + np.uint32(total // 2)) // np.uint32(total)).astype(np.uint8)
    return mean


def _make_taps(index: Int64, weight: Int64) -> Taps:
    """Taps from source pixels and weights, both ``[target pixels, taps]``; weights of 0 need no
    source pixel.
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
