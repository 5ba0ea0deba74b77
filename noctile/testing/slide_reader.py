"""Contract of `noctile.pipeline.slides.base.SlideReader`.

A subclass of `SlideReaderContract` has two fixtures. ``reader`` is a reader of any slide; ``exact``
is a reader of a slide whose pixels are square, stored without loss, and equal to ``pixels``::

    class TestMyReader(SlideReaderContract):
        pixels = np.load("pixels.npy")

        @pytest.fixture
        def reader(self):
            with closing(MyReader("slide.xyz")) as reader:
                yield reader

        @pytest.fixture
        def exact(self):
            with closing(MyReader("exact.xyz")) as reader:
                yield reader
"""

import threading

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.base import SlideReader

FACTORS = (0.4, 1.0, 1.03, 1.31, 2.0, 2.03, 3.07, 4.0, 6.11, 8.0, 20.0)
"""Pixel sizes at which slides are read, as multiples of that of level 0."""

law = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
)
"""Settings of hypothesis: reading takes milliseconds, and a fixture is shared by all examples."""

boxes = st.builds(
    Box, st.integers(-40, 340), st.integers(-40, 340), st.integers(0, 130), st.integers(0, 130)
)
"""Boxes inside, across and outside a slide of some hundred pixels."""

margins = st.integers(0, 40)
"""Widths by which a box is enlarged (px)."""


class SlideReaderContract:
    """Tests that each slide reader passes.

    Attributes:
        pixels: pixels of the slide of the fixture ``exact``, uint8 ``[height, width, 3]``.
    """

    pixels: UInt8

    @law
    @given(boxes, margins, st.sampled_from(FACTORS))
    def test_a_read_equals_the_crop_of_a_larger_read(
        self, reader: SlideReader, box: Box, margin: int, factor: float
    ) -> None:
        """Any box of any level is the crop of a larger box."""
        mpp, large = factor * reader.info.frame.mpp, box.grow(margin)
        assert np.array_equal(reader.read(box, mpp), reader.read(large, mpp)[box.slices(large)])

    @law
    @given(boxes, margins, st.sampled_from(FACTORS))
    def test_that_holds_for_square_pixels_too(
        self, exact: SlideReader, box: Box, margin: int, factor: float
    ) -> None:
        """Slides with square pixels take shortcuts in many readers."""
        mpp, large = factor * exact.info.frame.mpp, box.grow(margin)
        assert np.array_equal(exact.read(box, mpp), exact.read(large, mpp)[box.slices(large)])

    @law
    @given(boxes, st.sampled_from(FACTORS))
    def test_outside_the_slide_is_white(self, reader: SlideReader, box: Box, factor: float) -> None:
        """Pixels outside the slide are 255."""
        mpp = factor * reader.info.frame.mpp
        pixels = reader.read(box, mpp)
        outside = np.ones(pixels.shape[:2], bool)
        outside[box.intersect(reader.info.frame.at(mpp).box).slices(box)] = False
        assert pixels.shape == (box.height, box.width, 3)
        assert pixels.dtype == np.uint8
        assert (pixels[outside] == 255).all()

    def test_native_pixels_are_the_stored_pixels(self, exact: SlideReader) -> None:
        """At the pixel size of level 0 nothing is resampled."""
        frame = exact.info.frame
        assert np.array_equal(exact.read(frame.box, frame.mpp), self.pixels)

    def test_twice_the_pixel_size_is_the_mean_of_four(self, exact: SlideReader) -> None:
        """Whole factors are means of whole pixels, halves rounded up."""
        height, width = (n // 2 for n in self.pixels.shape[:2])
        blocks = self.pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
        means = np.floor(blocks.astype(float).mean(axis=(1, 3)) + 0.5)
        assert np.array_equal(exact.read(Box(0, 0, height, width), 2 * exact.info.frame.mpp), means)

    def test_threads_read_the_same_pixels_as_one_thread(self, reader: SlideReader) -> None:
        """Several threads may read at once."""
        mpp = 1.31 * reader.info.frame.mpp
        cuts = [Box(y, x, 60, 70) for y in range(0, 180, 20) for x in range(0, 250, 25)]
        alone = [reader.read(box, mpp) for box in cuts]
        together: dict[int, UInt8] = {}

        def work(start: int) -> None:
            for k in range(start, len(cuts), 4):
                together[k] = reader.read(cuts[k], mpp)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(pixels, together[k]) for k, pixels in enumerate(alone))
