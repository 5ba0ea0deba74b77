"""Discs of points: the pixels that a point labels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.truth.points import POINT, POINT_RADIUS_UM, disc, mark_points
from noctile.pipeline.truth.scheme import IGNORED


def mask(at: tuple[float, float], mpp: float, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, bool)
    out[disc(at, mpp, shape)] = True
    return out


@given(y=st.floats(-30, 80), x=st.floats(-30, 80), mpp=st.sampled_from([0.25, 0.5, 1.0, 4.0, 16.0]))
def test_a_disc_is_all_pixel_centres_within_its_radius(y: float, x: float, mpp: float) -> None:
    found = mask((y, x), mpp, (50, 60))
    for row in range(0, 50, 3):
        for col in range(0, 60, 3):
            near = math.dist((row + 0.5, col + 0.5), (y, x)) * mpp
            own = (row, col) == (math.floor(y), math.floor(x))
            if abs(near - POINT_RADIUS_UM) > 1e-6:
                assert found[row, col] == (near < POINT_RADIUS_UM or own)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_its_area_is_that_of_a_circle(mpp: float) -> None:
    area_um2 = mask((40.3, 40.8), mpp, (80, 80)).sum() * mpp**2
    assert area_um2 == pytest.approx(math.pi * POINT_RADIUS_UM**2, rel=0.06)


def test_at_coarse_pixels_it_is_the_pixel_of_the_point() -> None:
    assert np.argwhere(mask((3.1, 7.9), 32.0, (10, 10))).tolist() == [[3, 7]]


def test_marked_pixels_hold_their_class_and_ignored_ones_stay_ignored() -> None:
    targets = np.full((60, 60), 2, np.uint8)
    targets[:30] = IGNORED
    marked = mark_points(targets, np.array([[30.0, 20.0], [30.0, 24.0]]), 0.5)
    inside = mask((30, 20), 0.5, (60, 60)) | mask((30, 24), 0.5, (60, 60))
    inside[:30] = False
    assert np.array_equal(marked, np.where(inside, 2 + POINT, targets))
    assert not (targets == 2 + POINT).any()
