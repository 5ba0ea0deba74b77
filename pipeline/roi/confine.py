"""Regions of interest and tissue masks of a slide: read from the user's files, and applied."""

from dataclasses import replace

import numpy as np

from noctile.pipeline.errors import RoiError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.roi.confinement import Confinement, unreadable
from noctile.pipeline.roi.given_mask import read_given_mask
from noctile.pipeline.roi.regions import MAX_BYTES, Roi, near_regions, read_roi
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.tissue_mask import TissueMask
from noctile.pipeline.untrusted import read_bytes


def given_roi(confined: Confinement, native: Frame) -> Roi | None:
    """Read the regions of interest of a slide; None if there is no file.

    Args:
        confined: files that the user gives for the slide.
        native: frame of the slide's level 0, cut to its bounds.

    Raises:
        RoiError: if they cannot be read, or do not lie on the slide.
    """
    if confined.roi is None:
        return None
    try:
        content = read_bytes(confined.roi, MAX_BYTES)
    except OSError as error:
        raise RoiError(unreadable("region of interest", confined.roi, error)) from error
    return read_roi(content, str(confined.roi), native)


def given_tissue(
    confined: Confinement, info: SlideInfo, coarsest: Frame, finest: Frame
) -> TissueMask | None:
    """Read the tissue mask of a slide; None if there is no file. See `read_given_mask`.

    Raises:
        TissueMaskError: if it cannot be read, marks nothing, or is that of another slide.
    """
    if confined.tissue_mask is None:
        return None
    return read_given_mask(confined.tissue_mask, info, coarsest, finest)


def confine(tissue: TissueMask, roi: Roi) -> TissueMask:
    """Confine a tissue mask to regions of interest.

    Tiles are planned where a pixel of the mask may hold a point of a region. Labels are confined
    exactly, by the centres of the pixels of the label map.

    Args:
        tissue: tissue of the slide.
        roi: the regions.

    Raises:
        RoiError: if it would take minutes to draw the regions.
    """
    mask = np.asarray(tissue.mask & near_regions(roi, tissue.frame))
    flags = tissue.flags
    if not mask.any() and "no_tissue" not in flags:
        flags = (*flags, "no_tissue")
    return replace(tissue, mask=mask, flags=flags, within=roi)
