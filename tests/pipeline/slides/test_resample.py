"""Averages against plain numpy, and a pyramid of arrays: which level, which part of it, how much at
once."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_slides import ArraySource, picture, pyramid

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.pyramid import PyramidReader, downsample, level_frames
from noctile.pipeline.slides.resample import average, make_taps
from noctile.pipeline.slides.source import SourceInfo


def reader_of(source: ArraySource) -> PyramidReader:
    facts = source.info
    levels = level_frames(facts, *facts.mpp)
    frame = Frame(facts.scanned.extent, *facts.mpp)
    info = SlideInfo(
        "a", Path("a"), "0", frame, levels, "a", "a", "user", "none", None, facts.scanned
    )
    return PyramidReader(source, info)


def area_mean(pixels: np.ndarray, start: int, stop: int, ratio: float, origin: float) -> np.ndarray:
    """Along the first axis, by integrating a step function: independent of how the code does it."""
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


def test_finer_than_the_file_is_linear_between_pixel_centres() -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(
        3, axis=2
    )
    found = reader_of(ArraySource([ramp])).read(Box(0, 0, 40, 40), 0.25)
    centres = (np.arange(40) + 0.5) / 2 - 0.5
    wanted = np.interp(centres, np.arange(20), np.arange(0, 200, 10))
    assert np.abs(found[0, :, 0] - wanted).max() <= 0.5
    assert (found == found[0]).all()


@pytest.mark.parametrize(
    ("native", "level", "factors"),
    [
        ((2967, 2220), (741, 555), (4, 4)),  # 2967 / 741 = 4.004
        ((32914, 46000), (2057, 2875), (16, 16)),
        ((100, 100), (40, 40), (2.5, 2.5)),
        ((1000, 2000), (500, 400), (2, 5)),
    ],
)
def test_the_downsample_of_a_level_is_whole_where_only_a_remainder_was_dropped(
    native, level, factors
) -> None:
    (h0, w0), (h, w) = native, level
    assert (downsample(h0, h, w0, w), downsample(w0, w, h0, h)) == factors


@pytest.mark.parametrize(
    ("mpp", "level"), [(0.4, 0), (0.5, 0), (0.9, 0), (1.0, 1), (1.9, 1), (2.0, 2), (8.0, 2)]
)
def test_the_coarsest_level_that_is_fine_enough_is_read(mpp: float, level: int) -> None:
    source = ArraySource(pyramid(picture(256, 256), 2, 4))
    reader_of(source).read(Box(0, 0, 10, 10), mpp)
    assert source.levels_read == {level}


@pytest.mark.parametrize(("y", "x"), [(40, 24), (41, 23)])
@pytest.mark.parametrize("mpp", [0.5, 1.0, 2.0, 0.9])
def test_bounds_move_the_origin_to_where_the_file_says(y: int, x: int, mpp: float) -> None:
    """Level-0 pixels equal those of the cut picture; coarser levels agree but for the rounding of
    two averages."""
    rows, cols = np.mgrid[:80, :80] * 3  # three grey levels a pixel: a shift by one pixel shows
    pixels = np.dstack([rows, cols, 255 - rows]).astype(np.uint8)
    bounded = reader_of(ArraySource(pyramid(pixels, 2, 4), Box(y, x, 32, 40)))
    cut = reader_of(ArraySource([pixels[y : y + 32, x : x + 40]]))
    assert bounded.info.bounds == Box(y, x, 32, 40)
    assert bounded.info.frame == cut.info.frame == bounded.info.levels[0]
    assert bounded.info.levels[1].extent == Extent(16, 20)
    inner = Box.of(bounded.info.frame.at(mpp).extent).grow(-2)
    difference = np.abs(bounded.read(inner, mpp).astype(int) - cut.read(inner, mpp))
    assert difference.max() <= (0 if mpp == 0.5 else 1)
    assert (bounded.read(Box(-5, -5, 5, 5), mpp) == 255).all()


@pytest.mark.parametrize(
    ("bounds", "scanned"),
    [
        (Box(50, 60, 500, 500), Box(50, 60, 150, 140)),
        (Box(900, 900, 10, 10), Box(0, 0, 200, 200)),
        (None, Box(0, 0, 200, 200)),
    ],
)
def test_bounds_are_cut_to_the_file(bounds: Box | None, scanned: Box) -> None:
    facts = SourceInfo("a", "a", (Extent(200, 200),), None, None, bounds, None)
    assert facts.scanned == scanned


class _Endless(ArraySource):
    """One level of 40,000 x 50,000 pixels that take no memory."""

    def __init__(self) -> None:
        super().__init__([np.zeros((1, 1, 3), np.uint8)])
        self.info = SourceInfo(
            "array", "array", (Extent(40_000, 50_000),), (0.25, 0.25), None, None, None
        )

    def fetch(self, level: int, box: Box) -> np.ndarray:
        self.largest_px = max(self.largest_px, box.area)
        return np.full((box.height, box.width, 3), 100, np.uint8)


@pytest.mark.parametrize("mpp", [8.0, 8.3])
def test_an_overview_of_a_single_level_never_holds_much_of_it(mpp: float) -> None:
    source = _Endless()
    reader = reader_of(source)
    box = reader.info.frame.at(mpp).box
    strip = Box(0, 0, 200, box.width)
    tracemalloc.start()
    overview = reader.read(strip, mpp)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (overview[:, :-1] == 100).all()  # the last column reaches beyond the slide
    assert source.largest_px < 2100**2
    assert peak < 150e6
