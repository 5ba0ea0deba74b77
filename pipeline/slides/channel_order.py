"""Detection of images that store their channels in BGR order.

Programs that mix up RGB and OpenCV's BGR write such files. Scanners do not, but images and generic
TIFF come from any program: in all regions and tiles of BCSS and CAMELYON on which this was
measured, and which other programs had cut out, erythrocytes were blue. A network, a stain
normalizer and a reader of previews would then see another tissue.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from noctile.pipeline.arrays import Float32, UInt8

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Natural optical density of each grey level, float32 ``[256]``."""

BGR_FLAG = "red_blue_exchanged"
"""Flag in results of a slide whose file is in BGR order."""

DOUBT_FLAG = "channel_order_doubtful"
"""Flag in results of a slide whose file may be in BGR order, and is read as RGB."""

ChannelOrder = Literal["rgb", "bgr", "doubtful"]
"""Order of the channels in a file. Pixels of doubtful order are not changed."""

UNSURE_VENDORS = frozenset({"generic-tiff", "jpeg", "png"})
"""Formats that any program writes. Scanner formats are RGB."""

_TISSUE = 0.45
"""Least sum of the three densities of a tissue pixel; less is glass."""

_LEAST_TISSUE_PX = 2000
"""Least number of measured tissue pixels that raise a doubt."""

_CERTAIN_TISSUE_PX = 8000
"""Least number of measured tissue pixels that make BGR order certain, 180 x 180 px of tissue. The
colours of smaller images depend on a few cells."""

_NUCLEI = 0.03
"""Share of the tissue that is taken for nuclei: the pixels that let the least red and the least
blue through. Blood and eosin let red through, or blue in BGR order."""

_DENSE = 0.6
"""Least density of nuclei in red and in blue. Paler tissue has no nuclei to judge by."""

_LEAST_GREEN = 1.2
"""Least density of nuclei in green, relative to blue. It is 0.73 for DAB, the brown of
immunohistochemistry, which is densest in blue. (Ruifrok & Johnston 2001, table 1)"""

_BALANCE = (0.4, 0.85)
"""Lowest and highest density of nuclei in the first channel, relative to the third, that raise a
doubt."""

_MOST_IN_ORDER = 0.1
"""Highest share of nuclei in BGR order that are denser in red than in blue."""


_MOST_SPREAD = 0.67
"""Highest ratio, of the first channel to the third, of the standard deviations of densities that
makes BGR order certain. Nuclei and eosin differ more in red than in blue."""

_MOST_RISE = 0.9
"""Highest ratio of the balance of nuclei to the balance of pale tissue that makes BGR order
certain. In RGB order, dense tissue lets less red through, relative to blue, than pale tissue."""

_LEAST_PINK = 1.6
"""Least density of pale tissue in green, relative to the denser of the two other channels, that
makes BGR order certain. Eosin is densest in green. It is 1.0 for haematoxylin, which is pale tissue
beside a red stain of immunohistochemistry. (Ruifrok & Johnston 2001, table 1)"""


def channel_order(pixels: Iterable[UInt8]) -> ChannelOrder:
    """Decide from the colours of nuclei and pale tissue if the first channel is blue.

    Haematoxylin is 2.3 times as dense in red as in blue. (Ruifrok & Johnston 2001, table 1) If
    nuclei are denser in the third channel, the order is in doubt: dense eosin and some scanners
    have such nuclei in RGB order, too. It is certain if the contrast between nuclei and pale tissue
    is exchanged as well. (docs/decisions/0025; benchmarks/channel_order.py)

    Args:
        pixels: parts of a slide, uint8 ``[h, w, 3]``.
    """
    parts = [part for part in (_tissue(rgb) for rgb in pixels) if len(part)]
    density = np.concatenate(parts) if parts else np.empty((0, 3), np.float32)
    if len(density) < _LEAST_TISSUE_PX or not _suspicious(density):
        return "rgb"
    certain = len(density) >= _CERTAIN_TISSUE_PX and _exchanged_contrast(density)
    return "bgr" if certain else "doubtful"


def _suspicious(density: Float32) -> bool:
    """Test if nuclei are denser in the third channel than in the first."""
    nuclei, dense = _nuclei(density)
    first, green, third = nuclei.T
    balance, in_order = first.sum() / third.sum(), np.mean(first > third)
    judged = dense >= _DENSE and green.sum() >= _LEAST_GREEN * third.sum()
    return bool(judged and _BALANCE[0] <= balance <= _BALANCE[1] and in_order <= _MOST_IN_ORDER)


def _exchanged_contrast(density: Float32) -> bool:
    """Test if nuclei differ from pale tissue as in BGR order."""
    least = np.minimum(density[:, 0], density[:, 2])
    first, green, third = density[least <= np.median(least)].sum(axis=0, dtype=np.float64)
    nuclei = _nuclei(density)[0].sum(axis=0, dtype=np.float64)
    rise = nuclei[0] * third <= _MOST_RISE * nuclei[2] * first
    spread = density[:, 0].std() <= _MOST_SPREAD * density[:, 2].std()
    return bool(rise and spread and green >= _LEAST_PINK * max(first, third))


def _nuclei(density: Float32) -> tuple[Float32, float]:
    """Densities of nuclei, float32 ``[n, 3]``, and the least of their red and blue ones."""
    least = np.minimum(density[:, 0], density[:, 2])
    dense = float(np.quantile(least, 1 - _NUCLEI))
    return density[least >= dense], dense


def _tissue(rgb: UInt8) -> Float32:
    """Densities of every fourth pixel that is no glass, float32 ``[n, 3]``."""
    density = DENSITY[rgb[::2, ::2].reshape(-1, 3)]
    r, g, b = density.T  # a sum along so short an axis takes longer than all else here
    return np.asarray(density[r + g + b > _TISSUE])
