"""Field of view of 2 mm with the most stroma."""

from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Bool, Int64
from noctile.pipeline.geometry import Frame

FIELD_MM = 2.0
"""Side of a field (mm): the width that a microscope shows with an objective of 10x (van Pelt et
al., Virchows Arch 2018, 473:405, score the tumor-stroma ratio in such a field)."""

FIELD_STEPS = 8
"""Number of steps along the side of a field: fields begin every 0.25 mm."""

MIN_FIELD_SHARE = 0.5
"""Smallest share of a field that is tumor or stroma, 0..1. The ratio in a field of fat, necrosis or
glass rests on a sliver of tissue. (own choice)"""


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        y_um: its top (um).
        x_um: its left side (um).
        ratio: stroma / (tumor + stroma), 0..1.
    """

    y_um: float
    x_um: float
    ratio: float


def worst_field(tumor: Bool, stroma: Bool, foci: Bool, frame: Frame) -> Field | None:
    """Find the field of `FIELD_MM` with the largest share of stroma; the first one of equals.

    As the scoring rule demands, tumor lies on all four sides of the field: each strip of 0.25 mm
    along a side holds pixels of a focus. At least `MIN_FIELD_SHARE` of the field is tumor or
    stroma. Sides of fields are rounded to whole pixels.

    Args:
        tumor: bool ``[h, w]``, invasive tumor.
        stroma: bool ``[h, w]``, stroma.
        foci: bool ``[h, w]``, invasive tumor without specks.
        frame: frame of these masks.

    Returns:
        the field; None if no field has tumor on all sides.
    """
    step_um, n = FIELD_MM * 1000 / FIELD_STEPS, FIELD_STEPS
    ys = _edges(frame.extent.height, step_um / frame.mpp_y)
    xs = _edges(frame.extent.width, step_um / frame.mpp_x)
    if min(len(ys), len(xs)) <= n:
        return None
    tumor_px, stroma_px = (_window(_cells(mask, ys, xs), n, n) for mask in (tumor, stroma))
    fields_px = np.outer(ys[n:] - ys[:-n], xs[n:] - xs[:-n])
    both_px = tumor_px + stroma_px
    valid = _has_tumor_around(_cells(foci, ys, xs), n) & (both_px >= MIN_FIELD_SHARE * fields_px)
    if not valid.any():
        return None
    ratios = np.where(valid, stroma_px / np.maximum(both_px, 1), -1.0)
    row, col = np.unravel_index(int(ratios.argmax()), ratios.shape)
    y_um, x_um = float(ys[row] * frame.mpp_y), float(xs[col] * frame.mpp_x)
    return Field(y_um, x_um, float(ratios[row, col]))


def _edges(length_px: int, step_px: float) -> Int64:
    """First pixels of the whole cells along an axis, and the pixel after the last."""
    edges: Int64 = np.rint(np.arange(int(length_px / step_px) + 2) * step_px).astype(np.int64)
    return edges[edges <= length_px]


def _cells(mask: Bool, ys: Int64, xs: Int64) -> Int64:
    """Count the pixels of a mask in each cell."""
    part = mask[: ys[-1], : xs[-1]]
    rows = np.add.reduceat(part, ys[:-1], axis=0, dtype=np.int64)
    cells: Int64 = np.add.reduceat(rows, xs[:-1], axis=1)
    return cells


def _window(cells: Int64, height: int, width: int) -> Int64:
    """Sum of the cells in each window of ``height`` x ``width`` cells, by an integral image."""
    total = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1), np.int64)
    cells.cumsum(axis=0).cumsum(axis=1, out=total[1:, 1:])
    low, high = total[:-height], total[height:]
    sums: Int64 = high[:, width:] - high[:, :-width] - low[:, width:] + low[:, :-width]
    return sums


def _has_tumor_around(foci: Int64, n: int) -> Bool:
    """Tell of each field of n x n cells if the outermost cells of every side hold tumor."""
    rows, cols = _window(foci, 1, n) > 0, _window(foci, n, 1) > 0
    top, bottom = rows[: len(rows) - n + 1], rows[n - 1 :]
    left, right = cols[:, : cols.shape[1] - n + 1], cols[:, n - 1 :]
    around: Bool = top & bottom & left & right
    return around
