"""Whether a file holds blue where red belongs, as programs leave it that mix up RGB and BGR
(OpenCV's order).

No scanner does this, but images and generic TIFF come from anywhere: in all regions and tiles that
this was measured on and that somebody had cut out of BCSS and CAMELYON, erythrocytes were blue. A
network, a stain normalizer and a reader of previews all see another tissue then.
"""

from collections.abc import Iterable

import numpy as np

from noctile.pipeline.arrays import Float32, UInt8

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Natural optical density of each grey level, float32 ``[256]``."""

BGR_FLAG = "red_blue_exchanged"
"""The flag of a slide whose channels are exchanged."""

UNSURE_VENDORS = frozenset({"generic-tiff", "jpeg", "png"})
"""Formats that any program writes. A scanner's own keep their order."""

_TISSUE = 0.45
"""Sum of the three densities; with less a pixel is glass."""

_LEAST_TISSUE_PX = 2000
"""With fewer pixels of tissue nothing is said."""

_NUCLEI = 0.03
"""Share of the tissue that is taken for nuclei: what lets least red and least blue through. Blood
and eosin let red through, or blue where the channels are exchanged."""

_DENSE = 0.6
"""Nuclei are at least this dense in red and in blue; weaker tissue has none to judge by."""

_LEAST_GREEN = 1.2
"""Density of green over that of blue in nuclei, at least: 0.73 for DAB, the brown of
immunohistochemistry, which is densest in blue. (Ruifrok & Johnston 2001, table 1)"""

_BALANCE = (0.4, 0.85)
"""Density of red over that of blue in nuclei whose channels are exchanged."""

_MOST_IN_ORDER = 0.1
"""Of nuclei whose channels are exchanged at most this share is denser in red than in blue."""


def is_bgr(pixels: Iterable[UInt8]) -> bool:
    """Whether the first channel holds blue and the third red, judged by nuclei; in doubt it says
    no.

    Haematoxylin is 2.3 times as dense in red as in blue. (Ruifrok & Johnston 2001, table 1)
    Measured: in 34 regions and tiles of BCSS and CAMELYON whose channels are exchanged, nuclei have
    0.52 to 0.76 times as much density in the first channel as in the third, and in at most 2.8 % of
    them it is the higher one; the same tissue put right, and CMU-1-Small-Region, an overview of
    CAMELYON and the samples have 1.1 to 1.9 times as much, and 82 % or more.

    Args:
        pixels: parts of a slide, uint8 ``[h, w, 3]``.
    """
    parts = [part for part in (_tissue(rgb) for rgb in pixels) if len(part)]
    density = np.concatenate(parts) if parts else np.empty((0, 3), np.float32)
    if len(density) < _LEAST_TISSUE_PX:
        return False
    least = np.minimum(density[:, 0], density[:, 2])
    dense = float(np.quantile(least, 1 - _NUCLEI))
    first, green, third = density[least >= dense].T
    balance, in_order = first.sum() / third.sum(), np.mean(first > third)
    nuclei = dense >= _DENSE and green.sum() >= _LEAST_GREEN * third.sum()
    return bool(nuclei and _BALANCE[0] <= balance <= _BALANCE[1] and in_order <= _MOST_IN_ORDER)


def _tissue(rgb: UInt8) -> Float32:
    """Densities of one pixel in four that is no glass, float32 ``[n, 3]``."""
    density = DENSITY[rgb[::2, ::2].reshape(-1, 3)]
    r, g, b = density.T  # to sum along so short an axis takes longer than all else here
    return np.asarray(density[r + g + b > _TISSUE])
