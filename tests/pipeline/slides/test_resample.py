"""Averages of pixels, compared with plain numpy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_slides import picture

from noctile.pipeline.slides.resample import average, make_taps


def area_mean(pixels: np.ndarray, start: int, stop: int, ratio: float, origin: float) -> np.ndarray:
    """Average along the first axis by integrating a step function, unlike the code under test."""
    sums = np.concatenate(
        [np.zeros((1, *pixels.shape[1:])), np.cumsum(pixels.astype(float), axis=0)]
    )

    def upto(place: float) -> np.ndarray:
        whole = int(np.floor(place))
        return sums[whole] + (pixels[whole] * (place - whole) if place > whole else 0)

    edges = [origin + k * ratio for k in range(start, stop + 1)]
    return np.stack([(upto(b) - upto(a)) / ratio for a, b in itertools.pairwise(edges)])


@pytest.mark.parametrize(
    ("ratio_y", "ratio_x"), [(1.27, 1.27), (2.5, 1.5), (7.3, 3), (32.06, 32.06), (1.0, 2.2)]
)
@pytest.mark.parametrize("origin", [0.0, 0.75])
def test_fractional_ratios_are_the_mean_over_the_area(
    ratio_y: float, ratio_x: float, origin: float
) -> None:
    pixels = picture(200, 210)
    n_y, n_x = int(198 / ratio_y), int(208 / ratio_x)
    rows, cols = make_taps(0, n_y, ratio_y, origin, 200), make_taps(0, n_x, ratio_x, origin, 210)
    found = average(pixels[rows.start : rows.stop, cols.start : cols.stop], rows, cols)
    by_rows = area_mean(pixels, 0, n_y, ratio_y, origin)
    wanted = area_mean(by_rows.transpose(1, 0, 2), 0, n_x, ratio_x, origin).transpose(1, 0, 2)
    assert np.abs(found - wanted).max() < 0.55  # rounding, and weights of 12 bits


@pytest.mark.parametrize(("k_y", "k_x"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 7), (6, 6), (32, 32)])
def test_whole_ratios_are_the_exact_mean_rounded_half_up(k_y: int, k_x: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (k_y * 9, k_x * 8, 3), dtype=np.uint8)
    rows, cols = make_taps(0, 9, k_y, 0, k_y * 9), make_taps(0, 8, k_x, 0, k_x * 8)
    sums = pixels.reshape(9, k_y, 8, k_x, 3).sum(axis=(1, 3), dtype=np.int64)
    assert np.array_equal(average(pixels, rows, cols), (2 * sums + k_y * k_x) // (2 * k_y * k_x))


@given(st.integers(0, 255), st.floats(0.2, 40), st.floats(0.2, 40), st.floats(0, 3))
def test_a_constant_stays_that_constant(
    value: int, ratio_y: float, ratio_x: float, origin: float
) -> None:
    rows, cols = make_taps(3, 9, ratio_y, origin, 1000), make_taps(2, 7, ratio_x, origin, 1000)
    pixels = np.full((rows.stop - rows.start, cols.stop - cols.start, 3), value, np.uint8)
    assert (average(pixels, rows, cols) == value).all()
