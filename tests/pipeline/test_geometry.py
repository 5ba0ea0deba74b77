import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.geometry import Box, Extent, Frame

mpps = st.floats(0.1, 20)
frames = st.builds(
    Frame, st.builds(Extent, st.integers(1, 100_000), st.integers(1, 100_000)), mpps, mpps
)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    return Box(
        *(draw(st.integers(-50_000, 50_000)) for _ in "yx"),
        *(draw(st.integers(1, 50_000)) for _ in "hw"),
    )


class TestFrameAt:
    def test_a_whole_multiple_keeps_the_native_grid(self):
        assert Frame(Extent(1001, 2000), 0.25, 0.25).at(0.5) == Frame(Extent(501, 1000), 0.5, 0.5)

    def test_two_percent_off_is_still_the_native_grid(self):
        assert Frame(Extent(2967, 2220), 0.499, 0.499).at(0.5) == Frame(
            Extent(2967, 2220), 0.499, 0.499
        )
        assert Frame(Extent(1000, 1000), 0.2527, 0.2527).at(0.5).mpp_y == pytest.approx(0.5054)

    def test_more_than_two_percent_off_is_resampled(self):
        assert Frame(Extent(1000, 1000), 0.263, 0.263).at(0.5) == Frame(Extent(526, 526), 0.5, 0.5)

    def test_sides_of_different_size_become_squares(self):
        assert Frame(Extent(100, 100), 0.25, 0.5).at(0.5) == Frame(Extent(50, 100), 0.5, 0.5)

    @given(frames, mpps)
    def test_a_second_call_changes_nothing(self, frame: Frame, mpp: float):
        once = frame.at(mpp)
        assert once.at(mpp) == once

    @given(frames, mpps)
    def test_it_covers_the_slide_and_less_than_a_pixel_more(self, frame: Frame, mpp: float):
        at = frame.at(mpp)
        for own, other, own_mpp, other_mpp in (
            (frame.extent.height, at.extent.height, frame.mpp_y, at.mpp_y),
            (frame.extent.width, at.extent.width, frame.mpp_x, at.mpp_x),
        ):
            assert -1e-5 * other_mpp <= other * other_mpp - own * own_mpp < other_mpp


class TestProject:
    """Law 4: there and back contains the start, also with mpp_y != mpp_x. (defect: swapped axes)"""

    @given(frames, frames, boxes())
    def test_there_and_back_contains_the_start(self, a: Frame, b: Frame, box: Box):
        assert b.project(a.project(box, b), a).contains(box)

    @given(frames, boxes())
    def test_to_the_same_frame_is_the_same_box(self, frame: Frame, box: Box):
        assert frame.project(box, frame) == box

    def test_axes_are_not_swapped(self):
        fine, coarse = Frame(Extent(1000, 1000), 0.25, 0.5), Frame(Extent(250, 500), 1.0, 1.0)
        assert fine.project(Box(100, 200, 40, 60), coarse) == Box(25, 100, 10, 30)

    @given(frames, mpps)
    def test_a_slide_projects_to_its_whole_frame_at_any_mpp(self, frame: Frame, mpp: float):
        at = frame.at(mpp)
        assert frame.project(frame.box, at) == at.box


class TestBox:
    @given(boxes(), boxes())
    def test_the_common_part_lies_in_both(self, a: Box, b: Box):
        common = a.intersect(b)
        assert common == b.intersect(a) or common.area == 0
        if common.area:
            assert a.contains(common)
            assert b.contains(common)

    def test_negative_sides_are_refused(self):
        with pytest.raises(ValueError, match="negative"):
            Box(0, 0, -1, 1)
        with pytest.raises(ValueError, match="positive"):
            Frame(Extent(1, 1), 0.0, 1.0)
