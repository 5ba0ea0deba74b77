"""Tumor candidates from colour alone: haematoxylin, nuclear density, a threshold. A first guess,
not a diagnosis.

Colour deconvolution gives the haematoxylin of each pixel. What of it is gathered in structures at
least as wide as a tumor cell's nucleus counts for tumor, what lies in narrower ones (lymphocytes,
fibroblasts) against it; smoothed over a few cells, Otsu's threshold divides the tissue. Otsu always
divides: where there is no tumor, the densest tissue is still called a candidate. (measured:
`WIDE_UM`)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # like scikit-image it imports its parts when they are used: a run uses none of them here
import skimage

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Box, Frame

MPP = 1.0
"""Pixel size at which nuclei are judged (um): a tumor cell's nucleus is about ten pixels wide."""

STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105))
"""Optical density of haematoxylin and of eosin in R, G, B. (Ruifrok & Johnston 2001, table 1)

Fixed, not estimated for each image as Macenko et al. (2009) do: with their vectors the area under
the ROC curve of `evidence` falls from 0.90 to 0.89 on BCSS 1008, and from 0.87 to 0.84 on 1015.
"""

FROM_STAINS = np.array([*STAINS, np.cross(*STAINS)])
"""Optical density of R, G and B from amounts of haematoxylin, eosin and what is neither."""

TO_STAINS = np.linalg.inv(FROM_STAINS)

WIDE_UM, SMOOTH_UM, NARROW_WEIGHT = 2.0, 8.0, 1.0
"""Radius of the disc that a wide structure holds; scale of the Gaussian (um); what narrow
structures count against it.

The best mean Dice of 12 settings over BCSS 1008, BCSS 1015 and 32 CAMELYON tiles: 0.81, 0.69, 0.61.
Chosen without the data that they are measured on, 1008 gets 0.80, 1015 0.69, CAMELYON 0.61.
"""

MARGIN_UM = 36.0
"""Pixels farther away than this do not matter to the evidence (um): four scales of the Gaussian and
two radii."""

SQUARE_PX = 4
"""Evidence is kept for squares of this many pixels: smoothed as it is, it has no finer detail."""

MIN_AREA_UM2 = 600.0
"""Smaller pieces, and smaller holes, are not worth an outline (um2): a disc of 28 um, a few cells.
"""

_MIN_FIELD = 1e-4
"""A candidate's field is at least this, others' at most minus this (optical density): nowhere is it
0."""

_STRIP_ROWS = 512

_GLASS = 243.0
"""What glass lets through (0..255). Otsu's threshold follows a change: with 235 or 255 no Dice
changes by 0.01."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Where a tumor may be.

    Attributes:
        field: float32 ``[h, w]``: above 0 in a candidate, below 0 elsewhere; its interpolated zero
            line is the outline.
        frame: of the field.
        tissue: bool ``[h, w]``; there is no candidate outside it.
        threshold: Otsu's, of the evidence (optical density); None where there is no tissue.
    """

    field: Float32
    frame: Frame
    tissue: Bool
    threshold: float | None

    @property
    def area_mm2(self) -> float:
        """Area of all candidates (mm2)."""
        return float(np.count_nonzero(self.field > 0)) * self.frame.pixel_area_mm2

    @property
    def rest(self) -> Float32:
        """The field of the other tissue: above 0 in tissue that is no candidate, but for specks
        along its edge.
        """
        rest = np.negative(self.field, out=self.field.copy(), where=self.tissue)
        specks = (rest > 0) & ~_without_small(rest > 0, self.frame)
        return np.negative(rest, out=rest, where=specks)

    def on(self, box: Box, frame: Frame) -> Bool:
        """Whether the pixels of a box in another frame belong to a candidate, bool ``[box.height,
        box.width]``.

        The field is interpolated linearly at their centres, so that outlines are smooth at any
        pixel size.
        """
        y, ys, dy = _between(box.y, box.y_stop, frame.mpp_y / self.frame.mpp_y, self.field.shape[0])
        x, xs, dx = _between(box.x, box.x_stop, frame.mpp_x / self.frame.mpp_x, self.field.shape[1])
        rows = self.field[y] * (1 - dy)[:, None] + self.field[ys] * dy[:, None]
        found: Bool = rows[:, x] * (1 - dx) + rows[:, xs] * dx > 0
        return found


def haematoxylin(rgb: UInt8) -> Float32:
    """Haematoxylin in each pixel (optical density, not below 0), float32 ``[h, w]`` of uint8 ``[h,
    w, 3]``.
    """
    table = np.maximum(np.log10((_GLASS + 1) / (np.arange(256) + 1)), 0)
    to_stains = np.linalg.pinv(np.asarray(STAINS))[:, 0]
    parts = (table * to_stains[k] for k in range(3))
    amount = np.zeros(rgb.shape[:2], np.float32)
    for k, part in enumerate(parts):
        amount += part.astype(np.float32)[rgb[..., k]]
    return np.maximum(amount, 0, out=amount)


def evidence(rgb: UInt8, frame: Frame) -> Float32:
    """Evidence of tumor: haematoxylin in wide structures less that in narrow ones, smoothed
    (optical density).

    Args:
        rgb: uint8 ``[h, w, 3]`` at about `MPP`. Where its edge is not the slide's, what lies within
            `MARGIN_UM` of the edge is not to be used; the slide's own edge is mirrored.
        frame: of the pixels; only their size counts.

    Returns:
        float32 ``[h, w]``.
    """
    stain = haematoxylin(rgb)
    disk = skimage.morphology.disk(round(WIDE_UM / frame.mpp))  # type: ignore[no-untyped-call]
    wide = scipy.ndimage.grey_opening(stain, footprint=disk)
    balance = wide - NARROW_WEIGHT * (stain - wide)
    smooth: Float32 = scipy.ndimage.gaussian_filter(balance, SMOOTH_UM / frame.mpp, truncate=4)
    return smooth


def average_squares(values: Float32) -> Float32:
    """Means of squares of `SQUARE_PX` x `SQUARE_PX` pixels, float32; one that is cut short is the mean of
    what it has.
    """
    rows, cols = (np.arange(0, side, SQUARE_PX) for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), cols, axis=1)
    counts = (
        np.minimum(SQUARE_PX, side - at)
        for side, at in zip(values.shape, (rows, cols), strict=True)
    )
    mean: Float32 = (sums / np.multiply.outer(*counts)).astype(np.float32)
    return mean


def find_candidates(values: Float32, frame: Frame, tissue: Bool) -> Candidates:
    """Divide a slide's tissue by its evidence, and drop small pieces and holes.

    Args:
        values: evidence, float32 ``[h, w]``.
        frame: of the evidence.
        tissue: bool ``[h, w]``; what lies outside takes no part in Otsu's threshold.
    """
    inside = values[tissue]
    if not inside.size:
        return Candidates(np.full(values.shape, -1, np.float32), frame, tissue, None)
    threshold = np.float32(skimage.filters.threshold_otsu(inside) if np.ptp(inside) else inside[0])  # type: ignore[no-untyped-call]
    found = _without_small((values > threshold) & tissue, frame)
    found |= tissue & ~found & ~_without_small(~found, frame)
    field = np.abs(values - threshold)
    np.maximum(field, np.float32(_MIN_FIELD), out=field)
    return Candidates(np.negative(field, out=field, where=~found), frame, tissue, float(threshold))


def _without_small(mask: Bool, frame: Frame) -> Bool:
    """The mask without pieces (4 neighbours) of less than `MIN_AREA_UM2`."""
    pieces, n = scipy.ndimage.label(mask)
    strips = (pieces[y : y + _STRIP_ROWS] for y in range(0, len(pieces), _STRIP_ROWS))
    count = sum(
        (np.bincount(strip.ravel(), minlength=n + 1) for strip in strips), np.zeros(n + 1, np.int64)
    )
    keep = count * frame.mpp_y * frame.mpp_x >= MIN_AREA_UM2
    keep[0] = False
    return np.asarray(keep[pieces])


def _between(
    start: int, stop: int, ratio: float, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float32]:
    """The two of ``length`` pixels that each centre of ``start..stop`` lies between, and how far on
    its way it is.
    """
    place = np.clip((np.arange(start, stop) + 0.5) * ratio - 0.5, 0, length - 1)
    lower = np.floor(place).astype(np.int64)
    return lower, np.minimum(lower + 1, length - 1), (place - lower).astype(np.float32)
