"""Tissue of a slide as a mask, and the area to which its analysis is confined."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from noctile.pipeline.arrays import Bool, Int64
from noctile.pipeline.geometry import Box, Frame


class Area(Protocol):
    """Part of a slide to which its analysis is confined."""

    def inside(self, box: Box, frame: Frame) -> Bool:
        """Find the pixels of a box in a frame of the slide whose centres lie in the area.

        Returns:
            bool ``[box.height, box.width]``.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Tissue of one slide.

    Attributes:
        mask: bool ``[h, w]``, True where there is tissue.
        frame: frame of the mask.
        rule: thresholds that made the mask, as text.
        flags: quality flags of the mask, of ``no_tissue``, ``little_tissue``,
            ``almost_all_tissue``, ``pen_marks``, ``not_h_and_e``, ``tissue_mostly_rejected`` and
            ``tissue_mask_given``.
        within: area to which the analysis is confined, or None. Pixels of ``mask`` at its border
            may lie outside of it; `on` gives none of them.
    """

    mask: Bool
    frame: Frame
    rule: str
    flags: tuple[str, ...]
    within: Area | None = None

    @property
    def area_mm2(self) -> float:
        """Area of the tissue (mm2)."""
        mask = self.on(self.frame.box, self.frame) if self.within else self.mask
        return float(np.count_nonzero(mask)) * self.frame.pixel_area_mm2

    @property
    def width_mm(self) -> float:
        """Longer side of the box around all tissue (mm), 0 without tissue."""
        if not self.mask.any():
            return 0.0
        height_px, width_px = (
            float(np.ptp(np.flatnonzero(self.mask.any(axis=axis))) + 1) for axis in (1, 0)
        )
        return max(height_px * self.frame.mpp_y, width_px * self.frame.mpp_x) / 1000

    def on(self, box: Box, frame: Frame) -> Bool:
        """Return the tissue under the pixels of a box in another frame.

        A pixel is tissue if its centre is, and lies in the area to which the analysis is confined.

        Args:
            box: pixels of ``frame``.
            frame: a frame of the same slide.

        Returns:
            bool ``[box.height, box.width]``; False outside the slide.
        """
        under = self._under(box, frame)
        if self.within and under.any():
            under &= self.within.inside(box, frame)
        return under

    def _under(self, box: Box, frame: Frame) -> Bool:
        """Return the pixels of ``mask`` under the pixels of a box in another frame."""
        rows, ys = _under(box.y, box.y_stop, frame.mpp_y / self.frame.mpp_y, self.mask.shape[0])
        cols, xs = _under(box.x, box.x_stop, frame.mpp_x / self.frame.mpp_x, self.mask.shape[1])
        if not (len(ys) and len(xs)):
            return np.zeros((box.height, box.width), np.bool_)
        few_rows = self.mask[ys[0] : ys[-1] + 1].take(xs, axis=1)
        under: Bool = few_rows.take(ys - ys[0], axis=0)  # rows last: they are copied whole
        if under.shape == (box.height, box.width):
            return under
        out = np.zeros((box.height, box.width), np.bool_)
        out[rows, cols] = under
        return out


def _under(start: int, stop: int, ratio: float, length: int) -> tuple[slice, Int64]:
    """Project the centres of the pixels ``start..stop`` to one axis of a mask.

    Args:
        start: first pixel.
        stop: pixel after the last.
        ratio: pixel size divided by that of the mask.
        length: number of the mask's pixels.

    Returns:
        the pixels whose centres lie over the mask, counted from ``start``, and the mask's pixels
        under them.
    """
    index = np.floor((np.arange(start, stop) + 0.5) * ratio).astype(np.int64)
    inside = slice(int(np.searchsorted(index, 0)), int(np.searchsorted(index, length)))
    return inside, index[inside]
