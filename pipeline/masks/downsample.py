"""Halving of label maps and images: 2 x 2 pixels become one."""

import numpy as np

from noctile.pipeline.arrays import UInt8, UInt16

_MANY_MIXED = 0.3
"""Share of 2 x 2 pixels with different labels above which it is quicker to vote everywhere."""

_STRIP_ROWS = 128
"""Number of rows that are halved at once, so that they stay in the cache of a processor core."""


def halve_labels(labels: UInt8) -> UInt8:
    """Replace each 2 x 2 labels by the most frequent one.

    In a tie the smallest code above 0 wins, so that analysed pixels stay visible and a tumor with
    the first code does not get thinner. At an odd edge only existing pixels vote: the edge is
    repeated, which doubles each of their votes.

    Args:
        labels: uint8 ``[h, w]``.

    Returns:
        uint8 ``[ceil(h / 2), ceil(w / 2)]``.
    """
    height, width = labels.shape
    even = (
        np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
        if height % 2 or width % 2
        else labels
    )
    pairs = np.ascontiguousarray(even).view(np.uint16)
    halved = np.empty((pairs.shape[0] // 2, pairs.shape[1]), np.uint8)
    for y in range(0, len(pairs), _STRIP_ROWS):
        strip = pairs[y : y + _STRIP_ROWS]
        halved[y // 2 : y // 2 + len(strip) // 2] = _halve_strip(strip[::2], strip[1::2])
    return halved


def _halve_strip(top: UInt16, bottom: UInt16) -> UInt8:
    """Halve a strip of labels, given as its upper and its lower rows.

    Args:
        top: uint16 ``[h / 2, w / 2]``, two neighbouring labels in each number.
        bottom: uint16 ``[h / 2, w / 2]``, the two labels below them.
    """
    most = top.astype(np.uint8)
    mixed = (top != bottom) | (top >> 8 != most)  # most 2 x 2 pixels have one label
    share = np.count_nonzero(mixed) / mixed.size
    if share > _MANY_MIXED:
        return _vote(*_four_labels(top, bottom))
    if share:
        where = np.flatnonzero(mixed)
        np.put(most, where, _vote(*_four_labels(np.take(top, where), np.take(bottom, where))))
    return most


def _four_labels(top: UInt16, bottom: UInt16) -> tuple[UInt8, UInt8, UInt8, UInt8]:
    upper, lower = ((pair.astype(np.uint8), (pair >> 8).astype(np.uint8)) for pair in (top, bottom))
    return *upper, *lower


def _vote(*labels: UInt8) -> UInt8:
    """Return the most frequent of four labels, elementwise."""
    one = np.uint8(1)  # uint8 wraps round: 0 - 1 is 255, which loses every tie
    a, b, c, d = _sorted(*(values - one for values in labels))
    most = a.copy()
    np.copyto(most, c, where=(c == d) & (a != b))
    np.copyto(most, b, where=b == c)
    return most + one


def _sorted(a: UInt8, b: UInt8, c: UInt8, d: UInt8) -> tuple[UInt8, UInt8, UInt8, UInt8]:
    """Sort four arrays elementwise by a network of five comparisons (Knuth, TAOCP 3, 5.3.4)."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    return a, b, c, d


def halve_image(pixels: UInt8) -> UInt8:
    """Replace each 2 x 2 pixels by their mean, with halves rounded up.

    At an odd edge only the existing pixels count.

    Args:
        pixels: uint8 ``[h, w, c]``.

    Returns:
        uint8 ``[ceil(h / 2), ceil(w / 2), c]``.
    """
    height, width, n = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    sums = np.full((even.shape[0] // 2, even.shape[1] // 2, n), 2, np.uint16)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sums += even[dy::2, dx::2]
    return (sums // 4).astype(np.uint8)
