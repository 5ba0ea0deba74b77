"""Connected pieces of a mask: gaps between them are closed, small ones are removed."""

import numpy as np
import scipy

from noctile.pipeline.arrays import Bool
from noctile.pipeline.geometry import Frame


def close_gaps(mask: Bool, radius_px: int) -> Bool:
    """Close gaps of up to twice a radius, with a diamond. The edge of the mask has no effect.

    Args:
        mask: bool ``[h, w]``.
        radius_px: radius of the diamond (px); below 1 the mask is returned as it is.

    Returns:
        bool ``[h, w]``.
    """
    if radius_px < 1:
        return mask
    wide = np.pad(mask, radius_px, mode="edge")
    closed: Bool = scipy.ndimage.binary_closing(wide, iterations=radius_px)
    return (closed | wide)[radius_px:-radius_px, radius_px:-radius_px]


def without_small(mask: Bool, least_mm2: float, frame: Frame) -> Bool:
    """Remove the pieces (4 neighbours) that are smaller than an area.

    Args:
        mask: bool ``[h, w]``.
        least_mm2: area of the smallest piece that stays (mm2).
        frame: frame of the mask.

    Returns:
        bool ``[h, w]``.
    """
    pieces, n = scipy.ndimage.label(mask)
    keep = np.bincount(pieces.ravel(), minlength=n + 1) * frame.pixel_area_mm2 >= least_mm2
    keep[0] = False
    return np.asarray(keep[pieces])
