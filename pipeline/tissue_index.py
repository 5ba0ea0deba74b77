"""Index of a tissue mask: many boxes are tested for tissue at once."""

from collections.abc import Sequence

import numpy as np

from noctile.pipeline.arrays import Bool, Int64
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.tissue_mask import TissueMask


class TissueIndex:
    """Integral image of a tissue mask, which finds the boxes of a frame that touch tissue.

    The answer is exact if the mask is coarser than the frame.

    Args:
        tissue: tissue of the slide.
        frame: frame of the boxes.
    """

    def __init__(self, tissue: TissueMask, frame: Frame) -> None:
        height, width = tissue.mask.shape
        self._sums: Int64 = np.zeros((height + 1, width + 1), np.int64)
        np.cumsum(np.cumsum(tissue.mask, axis=0, dtype=np.int64), axis=1, out=self._sums[1:, 1:])
        self._ratio_y, self._ratio_x = (
            frame.mpp_y / tissue.frame.mpp_y,
            frame.mpp_x / tissue.frame.mpp_x,
        )
        self._extent = frame.extent

    def touches(self, down: Sequence[Box], across: Sequence[Box]) -> Bool:
        """Test every box that has the rows of one box and the columns of another.

        Args:
            down: boxes whose rows are combined.
            across: boxes whose columns are combined.

        Returns:
            bool ``[len(down), len(across)]``, True with tissue.
        """
        n_y, n_x = self._sums.shape
        y, y_stop = _project(
            [(b.y, b.y_stop) for b in down], self._extent.height, self._ratio_y, n_y - 1
        )
        x, x_stop = _project(
            [(b.x, b.x_stop) for b in across], self._extent.width, self._ratio_x, n_x - 1
        )
        upper, lower = self._sums[y], self._sums[y_stop]
        return np.asarray(lower[:, x_stop] - lower[:, x] - upper[:, x_stop] + upper[:, x] > 0)


def _project(
    runs: Sequence[tuple[int, int]], end: int, ratio: float, mask_end: int
) -> tuple[Int64, Int64]:
    """Project runs of pixels to one axis of a mask.

    Args:
        runs: first pixel and pixel after the last of each run; they are cut at 0 and ``end``.
        end: number of pixels along the axis.
        ratio: pixel size divided by that of the mask.
        mask_end: number of the mask's pixels along the axis.

    Returns:
        the first mask pixels of the runs, and the mask pixels after the last ones.
    """
    start, stop = np.clip(np.array(runs, np.int64), 0, end).T
    first, last = (
        np.minimum(np.floor((at + 0.5) * ratio).astype(np.int64), mask_end)
        for at in (start, stop - 1)
    )
    return first, np.where(start < stop, np.minimum(last + 1, mask_end), first)
