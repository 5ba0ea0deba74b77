"""Pyramid of arrays: the level that is read, its region, and the memory that a read takes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tiny_slides import ArraySource, picture, pyramid

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.pyramid import PyramidReader, downsample, level_frames
from noctile.pipeline.slides.source import Reduction, SourceInfo


def reader_of(source: ArraySource) -> PyramidReader:
    described = source.info
    levels = level_frames(described, *described.mpp)
    frame = Frame(described.scanned.extent, *described.mpp)
    info = SlideInfo(
        "a", Path("a"), "0", frame, levels, "a", "a", "user", "none", None, described.scanned
    )
    return PyramidReader(source, info)


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
def test_a_downsample_is_whole_if_only_a_remainder_was_dropped(native, level, factors) -> None:
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
def test_bounds_move_the_origin(y: int, x: int, mpp: float) -> None:
    """Level-0 pixels equal those of the cut picture; coarser ones may differ by rounding."""
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


class _Endless(ArraySource):
    """Source of one level of 40,000 x 50,000 pixels that take no memory."""

    def __init__(self) -> None:
        super().__init__([np.zeros((1, 1, 3), np.uint8)])
        self.info = SourceInfo(
            "array", "array", (Extent(40_000, 50_000),), (0.25, 0.25), None, None, None
        )

    def fetch(self, level: int, box: Box) -> np.ndarray:
        self.largest_px = max(self.largest_px, box.area)
        return np.full((box.height, box.width, 3), 100, np.uint8)


@pytest.mark.parametrize("mpp", [8.0, 8.3])
def test_a_thumbnail_from_one_large_level_takes_little_memory(mpp: float) -> None:
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


@pytest.mark.parametrize(
    ("mpp", "index"),
    [(0.5, 0), (0.9, 0), (1.0, 2), (1.9, 2), (2.0, 1), (3.9, 1), (4.0, 4), (7.9, 4), (8.0, 4)],
)
def test_the_coarsest_level_is_read_and_the_files_own_before_a_reduction(
    mpp: float, index: int
) -> None:
    """Index 0 and 1 have 0.5 and 2.0 um/px; reductions 2, 3 and 4 have 1.0, 2.0 and 4.0 um/px."""
    source = ArraySource(
        pyramid(picture(256, 256), 4), None, (Reduction(0, 2), Reduction(0, 4), Reduction(1, 2))
    )
    reader = reader_of(source)
    assert len(reader.info.levels) == 2
    reader.read(Box(0, 0, 10, 10), mpp)
    assert source.levels_read == {index}


@pytest.mark.parametrize("mpp", [1.0, 1.3, 2.0, 3.1])
@pytest.mark.parametrize("bounds", [None, Box(12, 20, 101, 87), Box(13, 21, 101, 87)])
def test_reductions_have_the_position_of_their_level(mpp: float, bounds: Box | None) -> None:
    rows, cols = np.mgrid[:151, :203]
    pixels = np.dstack([rows, cols, 255 - rows]).astype(np.uint8)
    plain = reader_of(ArraySource([pixels], bounds))
    reduced = reader_of(ArraySource([pixels], bounds, (Reduction(0, 2),)))
    assert plain.info.levels == reduced.info.levels
    inner = plain.info.frame.at(mpp).box.grow(-2)
    assert np.abs(plain.read(inner, mpp).astype(int) - reduced.read(inner, mpp)).max() <= 1
    assert (reduced.read(Box(-5, -5, 5, 5), mpp) == 255).all()
