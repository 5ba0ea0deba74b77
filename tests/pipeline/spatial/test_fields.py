"""Worst field, against fields that are counted one by one."""

import numpy as np
import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.spatial.fields import Field, worst_field


def by_hand(tumor: np.ndarray, stroma: np.ndarray, foci: np.ndarray, frame: Frame) -> list[Field]:
    """All valid fields, counted one by one on the pixels."""
    found = []
    ys, xs = (
        [round(k * 250 / side) for k in range(int(n * side / 250) + 2)]
        for n, side in ((frame.extent.height, frame.mpp_y), (frame.extent.width, frame.mpp_x))
    )
    for r, c in np.ndindex(len(ys) - 8, len(xs) - 8):
        if ys[r + 8] > frame.extent.height or xs[c + 8] > frame.extent.width:
            continue
        part = np.s_[ys[r] : ys[r + 8], xs[c] : xs[c + 8]]
        seen, t, s = foci[part], int(tumor[part].sum()), int(stroma[part].sum())
        high = ys[r + 1] - ys[r], ys[r + 8] - ys[r + 7]
        wide = xs[c + 1] - xs[c], xs[c + 8] - xs[c + 7]
        sides = (seen[: high[0]], seen[-high[1] :], seen[:, : wide[0]], seen[:, -wide[1] :])
        if all(side.any() for side in sides) and t + s >= 0.5 * seen.size:
            found.append(Field(ys[r] * frame.mpp_y, xs[c] * frame.mpp_x, s / (t + s)))
    return found


@pytest.mark.parametrize("mpp", [(8.0, 8.0), (7.3, 9.1), (64.0, 50.0)])
def test_the_worst_field_is_the_worst_of_all_that_are_counted_one_by_one(mpp):
    rng = np.random.default_rng(3)
    frame = Frame(Extent(*(int(5000 / side) for side in mpp)), *mpp)
    shape = (frame.extent.height, frame.extent.width)
    ys, xs = (np.arange(n) * 6 // n for n in shape)
    share = rng.uniform(0, 0.5, (6, 6))[ys[:, None], xs]
    value = rng.random(share.shape)
    tumor, stroma = value < share, value > 0.35
    stroma &= ~tumor
    foci = tumor & (share > 0.1)
    expected = by_hand(tumor, stroma, foci, frame)
    worst = worst_field(tumor, stroma, foci, frame)
    assert len(expected) > 10
    assert worst == max(expected, key=lambda field: field.ratio)


def frame_of_tumor(side_px: int = 250) -> np.ndarray:
    """Tumor 0.16 mm wide along the sides of a field of 2 mm at 8 um."""
    tumor = np.ones((side_px, side_px), np.bool_)
    tumor[20:-20, 20:-20] = False
    return tumor


FRAME = Frame(Extent(250, 250), 8.0, 8.0)


def test_a_field_with_tumor_on_all_four_sides_is_measured():
    tumor = frame_of_tumor()
    assert worst_field(tumor, ~tumor, tumor, FRAME) == Field(0, 0, 210**2 / 250**2)


@pytest.mark.parametrize("side", [np.s_[:40], np.s_[-40:], np.s_[:, :40], np.s_[:, -40:]])
def test_a_field_without_tumor_on_one_side_is_none(side):
    tumor = frame_of_tumor()
    tumor[side] = False
    assert worst_field(tumor, ~tumor, tumor, FRAME) is None


def test_specks_are_no_tumor_on_a_side():
    tumor = frame_of_tumor()
    assert worst_field(tumor, ~tumor, np.zeros_like(tumor), FRAME) is None


@pytest.mark.parametrize(("stroma_px", "is_field"), [(31250 - 18400, True), (31249 - 18400, False)])
def test_half_of_a_field_must_be_tumor_or_stroma(stroma_px, is_field):
    tumor, stroma = frame_of_tumor(), np.zeros((250, 250), np.bool_)
    inside = np.flatnonzero(~tumor)
    stroma.ravel()[inside[:stroma_px]] = True
    assert tumor.sum() == 18400
    assert (worst_field(tumor, stroma, tumor, FRAME) is not None) == is_field


def test_a_slide_smaller_than_a_field_has_none():
    tumor = np.ones((249, 400), np.bool_)
    assert worst_field(tumor, ~tumor, tumor, Frame(Extent(249, 400), 8.0, 8.0)) is None
