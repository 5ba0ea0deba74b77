"""Detection of images that store their channels in BGR order.

Programs that mix up RGB and OpenCV's BGR write such files. Scanners do not, but images and generic
TIFF come from any program: in all regions and tiles of BCSS and CAMELYON on which this was
measured, and which other programs had cut out, erythrocytes were blue. A network, a stain
normalizer and a reader of previews would then see another tissue.
"""

from collections.abc import Iterable

import numpy as np

from noctile.pipeline.arrays import Float32, UInt8

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Natural optical density of each grey level, float32 ``[256]``."""

BGR_FLAG = "red_blue_exchanged"
"""Flag in results of a slide whose file is in BGR order."""

UNSURE_VENDORS = frozenset({"generic-tiff", "jpeg", "png"})
"""Formats that any program writes. Scanner formats are RGB."""

_TISSUE = 0.45
"""Least sum of the three densities of a tissue pixel; less is glass."""

_LEAST_TISSUE_PX = 2000
"""Least number of tissue pixels on which the order is judged."""

_NUCLEI = 0.03
"""Share of the tissue that is taken for nuclei: the pixels that let the least red and the least
blue through. Blood and eosin let red through, or blue in BGR order."""

_DENSE = 0.6
"""Least density of nuclei in red and in blue. Paler tissue has no nuclei to judge by."""

_LEAST_GREEN = 1.2
"""Least density of nuclei in green, relative to blue. It is 0.73 for DAB, the brown of
immunohistochemistry, which is densest in blue. (Ruifrok & Johnston 2001, table 1)"""

_BALANCE = (0.4, 0.85)
"""Lowest and highest density of nuclei in red, relative to blue, that mean BGR order."""

_MOST_IN_ORDER = 0.1
"""Highest share of nuclei in BGR order that are denser in red than in blue."""


def is_bgr(pixels: Iterable[UInt8]) -> bool:
    """Decide from the nuclei if the first channel is blue and the third is red; False in doubt.

    Haematoxylin is 2.3 times as dense in red as in blue. (Ruifrok & Johnston 2001, table 1)
    Measured in 34 regions and tiles of BCSS and CAMELYON in BGR order: nuclei have 0.52 to 0.76
    times as much density in the first channel as in the third, and in at most 2.8 % of them the
    first is the higher one. The same tissue in RGB order, CMU-1-Small-Region, an overview of
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
    """Densities of every fourth pixel that is no glass, float32 ``[n, 3]``."""
    density = DENSITY[rgb[::2, ::2].reshape(-1, 3)]
    r, g, b = density.T  # a sum along so short an axis takes longer than all else here
    return np.asarray(density[r + g + b > _TISSUE])
