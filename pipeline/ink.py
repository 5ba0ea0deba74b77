"""Ink on a slide: strokes of a pen, and black borders and specks."""

import numpy as np
import scipy

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Frame
from noctile.pipeline.optical_density import by_strips, density_of, largest, smallest, spread
from noctile.pipeline.pieces import without_small

INK_MIN_MM2 = 0.004
"""Smallest piece of ink (mm2): a stroke is larger than a speck."""

INK_FRINGE_UM = 8.0
"""Width of the fringe around ink that is neither ink nor tissue (um)."""

PEN_MIN_MM2 = 0.05
"""Smallest piece of ink that a pen leaves (mm2): flag ``pen_marks``. A fine pen is 0.3 mm wide.

Measured: 0.007 for the largest black speck on the overview of a CAMELYON slide, which has no pen;
0.09 for the largest stroke on the sample slide.
"""

BORDER_SHARE = 0.5
"""Share of an edge of the slide along which something black is a border and not a pen's stroke."""


def find_ink(thumbnail: UInt8, density_table: Float32, frame: Frame) -> tuple[Bool, bool]:
    """Find ink and black borders, with a fringe of `INK_FRINGE_UM`.

    Args:
        thumbnail: uint8 ``[h, w, 3]``, RGB.
        density_table: float32 ``[256, 3]``, optical density of each level of each channel.
        frame: frame of the thumbnail.

    Returns:
        bool ``[h, w]``, and True if a pen was among what was found.
    """
    inky = by_strips(thumbnail, lambda planes: _inky(density_of(planes, density_table)))
    if not inky.any():
        return inky, False
    smooth = scipy.ndimage.binary_opening(scipy.ndimage.binary_closing(inky))
    strokes = without_small(smooth, INK_MIN_MM2, frame)
    if not strokes.any():
        return strokes, False
    fringe_px = max(1, round(INK_FRINGE_UM / frame.mpp))
    grown: Bool = scipy.ndimage.binary_dilation(strokes, iterations=fringe_px)
    black = by_strips(thumbnail, lambda planes: _black(density_of(planes, density_table)))
    return grown, _has_pen(strokes, black, frame)


def _has_pen(strokes: Bool, black: Bool, frame: Frame) -> bool:
    """Tell if a stroke is as large as a pen's, and no black border."""
    pieces, n = scipy.ndimage.label(strokes)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    # Three pixels deep, because the opening removes the outermost ones.
    sides = (pieces[:3], pieces[-3:], pieces[:, :3].T, pieces[:, -3:].T)
    along = np.max(
        [np.bincount(side.max(axis=0), minlength=n + 1) / side.shape[1] for side in sides], axis=0
    )
    border = (along > BORDER_SHARE) & (np.bincount(pieces[black], minlength=n + 1) > sizes / 2)
    return bool((~border & (sizes * frame.pixel_area_mm2 >= PEN_MIN_MM2))[1:].any())


def _inky(density: Float32) -> Bool:
    """Find optical densities that no mixture of haematoxylin and eosin has.

    Both stains are densest in green: haematoxylin about (0.65, 0.70, 0.29), eosin (0.07, 0.99,
    0.11) or, measured on slides, (0.22, 0.80, 0.56). (Ruifrok & Johnston 2001; Macenko et al. 2009)
    """
    r, g, b = density
    blue_or_green = (r > 0.3) & (r > 1.15 * g)
    red = (g > 0.6) & (r < 0.16 * g) & (b > 0.7 * g)
    return np.asarray(blue_or_green | red | _black(density))


def _black(density: Float32) -> Bool:
    """Find pixels that are dense and without colour."""
    return (smallest(density) > 0.55) & (spread(density) < 0.3 * largest(density))
