"""Tumor foci: connected tumor regions of a slide, their number, areas and boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.spatial.classes import has_code

FOCI_MPP = 4.0
"""Pixel size at which tumor foci are counted (um); the nearest pyramid level is used.

A few such pixels cover a cell, and a level of this size is small on any slide.
"""

MIN_FOCUS_MM2 = 0.01
"""Area of the smallest tumor focus (mm2): a disc of 0.11 mm, below which single glands break up."""

_STRIP_ROWS = 512
"""Number of rows whose pixels are counted at once; a count takes 8 B for each of their pixels."""

Regions = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Focus:
    """One tumor focus.

    Attributes:
        box: smallest box that holds it, in pixels of the level at which it was found.
        area_mm2: its area (mm2).
    """

    box: Box
    area_mm2: float


def focus_areas_mm2(store: MaskStore, tumor_codes: Sequence[int]) -> Float64:
    """Measure the area of each tumor focus at about `FOCI_MPP`.

    Args:
        store: masks of the slide, with all levels.
        tumor_codes: codes of the classes with the role ``tumor``.

    Returns:
        float64 ``[n]``, areas of the connected tumor regions of at least `MIN_FOCUS_MM2` (mm2).

    Raises:
        StoreError: if the masks cannot be read.
    """
    _, _, areas_mm2 = _tumor_regions(store, tumor_codes)
    return areas_mm2[areas_mm2 >= MIN_FOCUS_MM2]


def find_foci(store: MaskStore, tumor_codes: Sequence[int], most: int) -> tuple[Frame, list[Focus]]:
    """Find the tumor foci that `focus_areas_mm2` measures, the largest first.

    Args:
        store: masks of the slide, with all levels.
        tumor_codes: codes of the classes with the role ``tumor``.
        most: largest number of foci.

    Returns:
        the frame in which they were found, and the foci.

    Raises:
        StoreError: if the masks cannot be read.
    """
    frame, regions, areas_mm2 = _tumor_regions(store, tumor_codes)
    largest = np.argsort(-areas_mm2, kind="stable")[:most]
    boxes = ndimage.find_objects(regions) if len(largest) else []
    foci = []
    for k in largest[areas_mm2[largest] >= MIN_FOCUS_MM2].tolist():
        ys, xs = boxes[k]
        box = Box(ys.start, xs.start, ys.stop - ys.start, xs.stop - xs.start)
        foci.append(Focus(box, float(areas_mm2[k])))
    return frame, foci


def only_foci(tumor: Bool, frame: Frame) -> Bool:
    """Remove the connected regions below `MIN_FOCUS_MM2` from a tumor mask.

    Args:
        tumor: bool ``[h, w]``.
        frame: frame of the mask.
    """
    regions, pixels = _labelled(tumor)
    kept = pixels * frame.pixel_area_mm2 >= MIN_FOCUS_MM2
    kept[0] = False
    foci = np.empty_like(tumor)
    for y in range(0, len(tumor), _STRIP_ROWS):
        foci[y : y + _STRIP_ROWS] = kept[regions[y : y + _STRIP_ROWS]]
    return foci


def _tumor_regions(store: MaskStore, tumor_codes: Sequence[int]) -> tuple[Frame, Regions, Float64]:
    """Label the connected tumor regions at about `FOCI_MPP`.

    Returns:
        the frame of the pyramid level; int32 ``[h, w]``, number of the region of each pixel, 0
        outside of tumor; float64 ``[n]``, area of the regions 1 to n (mm2).
    """
    frames = store.layout.level_frames
    level = min(range(len(frames)), key=lambda k: abs(np.log(frames[k].mpp / FOCI_MPP)))
    frame = frames[level]
    regions, pixels = _labelled(has_code(store.read_level(level), tumor_codes))
    return frame, regions, pixels[1:].astype(np.float64) * frame.pixel_area_mm2


def _labelled(mask: Bool) -> tuple[Regions, Int64]:
    """Number the connected regions of a mask (8 neighbours).

    Returns:
        int32 ``[h, w]``, number of the region of each pixel, 0 outside of the mask; int64
        ``[n + 1]``, pixels of each number.
    """
    regions = np.zeros(mask.shape, np.int32)
    n = ndimage.label(mask, structure=np.ones((3, 3)), output=regions)
    pixels = np.zeros(n + 1, np.int64)
    for y in range(0, len(mask), _STRIP_ROWS):
        pixels += np.bincount(regions[y : y + _STRIP_ROWS].ravel(), minlength=n + 1)
    return regions, pixels
