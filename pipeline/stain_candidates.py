"""Tumor candidates from the stain alone: a first guess, not a diagnosis.

Colour deconvolution gives the haematoxylin of each pixel. Haematoxylin in structures at least as
wide as a tumor cell's nucleus is evidence for tumor. Haematoxylin in narrower structures
(lymphocytes, fibroblasts) is evidence against it. The evidence is smoothed over a few cells, and
Otsu's threshold divides the tissue. Otsu always divides: in a slide without tumor, the densest
tissue is still a candidate. `WIDE_UM` has the measured quality.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # scipy and skimage load their parts on use, and a run uses none of them here
import skimage

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Box, Frame

MPP = 1.0
"""Pixel size of the evidence (um): a tumor cell's nucleus is about ten pixels wide."""

STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105))
"""Optical density of haematoxylin and of eosin in R, G, B. (Ruifrok & Johnston 2001, table 1)

They are fixed. Macenko et al. (2009) estimate them for each image: with their vectors the area
under the ROC curve of `evidence` falls from 0.90 to 0.89 on BCSS 1008, and from 0.87 to 0.84 on
1015.
"""

FROM_STAINS = np.array([*STAINS, np.cross(*STAINS)])
"""Matrix from amounts of haematoxylin, eosin and a rest to optical density of R, G and B."""

TO_STAINS = np.linalg.inv(FROM_STAINS)
"""Matrix from optical density of R, G and B to amounts of haematoxylin, eosin and a rest."""

WIDE_UM, SMOOTH_UM, NARROW_WEIGHT = 2.0, 8.0, 1.0
"""Radius of a disc that fits into a wide structure (um), standard deviation of the Gaussian (um),
and weight of narrow structures against wide ones.

They have the best mean Dice of 12 settings over BCSS 1008 (0.81), BCSS 1015 (0.69) and 32 CAMELYON
tiles (0.61). Chosen without the data of the measurement, the Dice is 0.80, 0.69 and 0.61.
"""

MARGIN_UM = 36.0
"""Distance from which pixels do not change the evidence (um): four standard deviations of the
Gaussian and two radii."""

SQUARE_PX = 4
"""Side of the squares for which evidence is stored (px): smoothed evidence has no finer detail."""

MIN_AREA_UM2 = 600.0
"""Smallest area of a piece or a hole (um2): a disc of 28 um, a few cells."""

_MIN_FIELD = 1e-4
"""Smallest absolute value of the field (optical density), so that it is nowhere 0."""

_STRIP_ROWS = 512

_GLASS = 243.0
"""Brightness of glass (0..255). Otsu's threshold follows a change of it: with 235 or 255 no Dice
changes by 0.01."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Tumor candidates of a slide.

    Attributes:
        field: float32 ``[h, w]``, above 0 in a candidate and below 0 elsewhere; its interpolated
            zero line is the outline.
        frame: frame of the field.
        tissue: bool ``[h, w]``, true for tissue; there is no candidate outside of tissue.
        threshold: Otsu's threshold of the evidence (optical density); None if there is no tissue.
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
        """Field of the other tissue: above 0 in tissue that is no candidate.

        Small specks of it, such as those along the edge of the tissue, are below 0.
        """
        rest = np.negative(self.field, out=self.field.copy(), where=self.tissue)
        specks = (rest > 0) & ~_without_small(rest > 0, self.frame)
        return np.negative(rest, out=rest, where=specks)

    def on(self, box: Box, frame: Frame) -> Bool:
        """Candidates at the pixels of a box.

        The field is interpolated linearly at the centres of the pixels, so that outlines are smooth
        at any pixel size.

        Args:
            box: pixels of ``frame``.
            frame: frame of the result, with the same top left corner as the field's.

        Returns:
            bool ``[box.height, box.width]``, true in a candidate.
        """
        y, ys, dy = _between(box.y, box.y_stop, frame.mpp_y / self.frame.mpp_y, self.field.shape[0])
        x, xs, dx = _between(box.x, box.x_stop, frame.mpp_x / self.frame.mpp_x, self.field.shape[1])
        rows = self.field[y] * (1 - dy)[:, None] + self.field[ys] * dy[:, None]
        found: Bool = rows[:, x] * (1 - dx) + rows[:, xs] * dx > 0
        return found


def haematoxylin(rgb: UInt8) -> Float32:
    """Amount of haematoxylin in each pixel (optical density, not below 0).

    Args:
        rgb: uint8 ``[h, w, 3]``.

    Returns:
        float32 ``[h, w]``.
    """
    table = np.maximum(np.log10((_GLASS + 1) / (np.arange(256) + 1)), 0)
    to_stains = np.linalg.pinv(np.asarray(STAINS))[:, 0]
    parts = (table * to_stains[k] for k in range(3))
    amount = np.zeros(rgb.shape[:2], np.float32)
    for k, part in enumerate(parts):
        amount += part.astype(np.float32)[rgb[..., k]]
    return np.maximum(amount, 0, out=amount)


def evidence(rgb: UInt8, frame: Frame) -> Float32:
    """Evidence of tumor: smoothed haematoxylin of wide structures, minus that of narrow ones.

    Args:
        rgb: uint8 ``[h, w, 3]`` at about `MPP`. At the slide's edge it is mirrored. At any other
            edge, results within `MARGIN_UM` of the edge are not valid.
        frame: frame of the pixels; only their size matters.

    Returns:
        float32 ``[h, w]`` (optical density).
    """
    stain = haematoxylin(rgb)
    disk = skimage.morphology.disk(round(WIDE_UM / frame.mpp))  # type: ignore[no-untyped-call]
    wide = scipy.ndimage.grey_opening(stain, footprint=disk)
    balance = wide - NARROW_WEIGHT * (stain - wide)
    smooth: Float32 = scipy.ndimage.gaussian_filter(balance, SMOOTH_UM / frame.mpp, truncate=4)
    return smooth


def average_squares(values: Float32) -> Float32:
    """Means of squares of `SQUARE_PX` x `SQUARE_PX` pixels, float32.

    A square at the edge is the mean of the pixels that it has.
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
        frame: frame of the evidence.
        tissue: bool ``[h, w]``, true for tissue; other pixels do not change Otsu's threshold.
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
    """Drop the pieces (4 neighbours) of a mask that are smaller than `MIN_AREA_UM2`."""
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
    """Neighbours of pixel centres for linear interpolation.

    Args:
        start: first pixel.
        stop: pixel after the last.
        ratio: size of these pixels, relative to those of the field.
        length: number of pixels of the field.

    Returns:
        Lower and upper neighbour of each centre in the field, and its distance from the lower one
        (0 to 1).
    """
    position = np.clip((np.arange(start, stop) + 0.5) * ratio - 0.5, 0, length - 1)
    lower = np.floor(position).astype(np.int64)
    return lower, np.minimum(lower + 1, length - 1), (position - lower).astype(np.float32)
