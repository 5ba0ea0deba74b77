"""Zones around a tumor, by distance: the border zone and the tumor bed.

A pixel of these maps is a point at which the label map was sampled.

A zone is computed by tiles. Each tile sees so much of its neighbours that its part of the zone is
exactly that of the whole map.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from noctile.pipeline.arrays import Bool
from noctile.pipeline.geometry import Box, Frame

BORDER_UM = 500.0
"""Largest distance from the tumor at which stroma is near its border (um).

It is half the width of the invasive margin, a strip of 1 mm centred on the border between tumor and
host tissue (Hendry et al., Adv Anat Pathol 2017, 24:235).
"""

TILE_PX = 512
"""Side of the tiles of a zone (px): 4 mm at 8 um. A tile and its margins take about 20 MB."""

_EXACT = 1 + 1e-9
"""Factor for distances, so that rounding leaves no pixel out that is exactly as far."""


@dataclass(frozen=True, slots=True)
class ZoneTile:
    """Zones in one tile.

    Attributes:
        box: pixels of the tile.
        border: bool ``[h, w]``, pixels within `BORDER_UM` of the tumor, and the tumor.
        bed: bool ``[h, w]``, pixels of the tumor bed.
    """

    box: Box
    border: Bool
    bed: Bool


def zone_tiles(tumor: Bool, frame: Frame, tile_px: int = TILE_PX) -> Iterator[ZoneTile]:
    """Compute border zone and tumor bed by tiles; tiles far from any tumor are left out.

    The border zone is the tumor, dilated by `BORDER_UM`. The tumor bed is this zone, eroded by the
    same distance: the morphological closing of the tumor. It holds the tumor and all gaps that no
    disc of `BORDER_UM` fits into, and follows the outer border of the tumor. Outside of the frame
    is no tumor.

    Args:
        tumor: bool ``[h, w]``, pixels of the tumor.
        frame: frame of the map, whose pixels need not be square.
        tile_px: side of the tiles (px).
    """
    margin = math.ceil(BORDER_UM / min(frame.mpp_y, frame.mpp_x)) + 1
    for y in range(0, frame.extent.height, tile_px):
        for x in range(0, frame.extent.width, tile_px):
            box = Box(y, x, tile_px, tile_px).intersect(frame.box)
            near = tumor[box.grow(margin).intersect(frame.box).slices()]
            if near.any():
                yield _zones(tumor, frame, box, margin)


def _zones(tumor: Bool, frame: Frame, box: Box, margin: int) -> ZoneTile:
    """Compute the zones of one tile from the tumor within two margins."""
    seen = box.grow(2 * margin)
    inside = seen.intersect(frame.box)
    padded = np.zeros((seen.height, seen.width), np.bool_)
    padded[inside.slices(seen)] = tumor[inside.slices()]
    near = within(padded, BORDER_UM, frame)
    bed = ~within(~near, BORDER_UM, frame)
    part = box.slices(seen)
    return ZoneTile(box, near[part], bed[part])


def within(mask: Bool, distance_um: float, frame: Frame) -> Bool:
    """Dilate a mask: pixels whose centre is at most so far from the centre of one of its pixels.

    Args:
        mask: bool ``[h, w]``.
        distance_um: the distance (um).
        frame: frame of the mask, for the sides of a pixel.

    Returns:
        bool ``[h, w]``.
    """
    if not mask.any():
        return np.zeros_like(mask)
    sides_um = (frame.mpp_y, frame.mpp_x)
    distances = ndimage.distance_transform_edt(~mask, sampling=sides_um)
    near: Bool = distances <= distance_um * _EXACT
    return near
