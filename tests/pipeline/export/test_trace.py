"""Outlines of foci, compared with scikit-image's components and with the pixels."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from noctile.pipeline.export.trace import Focus, trace_foci


def traced(labels: np.ndarray, height: int) -> list[Focus]:
    """Trace a label map in strips of a height; strips without a label are left out."""
    strips = [(y, labels[y : y + height]) for y in range(0, len(labels), height)]
    strips = [(y, strip) for y, strip in strips if strip.any()]
    return [focus for foci in trace_foci(strips, labels.shape[1]) for focus in foci]


def area_of(ring: np.ndarray) -> float:
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def drawn(focus: Focus, shape: tuple[int, int]) -> np.ndarray:
    """Pixels inside the outlines, by the even-odd rule along the rows."""
    inside = np.zeros((shape[0], shape[1] + 1), np.bool_)
    for ring in focus.rings:
        for (x, y), (x2, y2) in zip(ring, np.roll(ring, -1, 0), strict=True):
            assert (x == x2) != (y == y2)  # each step goes along one axis
            if x == x2:
                inside[min(y, y2) : max(y, y2), x:] ^= True
    return inside[:, :-1]


label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 21]))
)


@given(labels=label_maps, height=st.integers(1, 5))
def test_foci_are_the_connected_components_and_their_outlines_hold_their_pixels(labels, height):
    foci = traced(labels, height)
    components = label(labels, connectivity=1, background=0)
    assert sorted(components[f.y, f.x] for f in foci) == list(range(1, components.max() + 1))
    for focus in foci:
        pixels = components == components[focus.y, focus.x]
        assert labels[focus.y, focus.x] == focus.label
        assert pixels.sum() == focus.area_px
        assert tuple(np.argwhere(pixels)[0]) == (focus.y, focus.x)
        assert np.array_equal(drawn(focus, labels.shape), pixels)


@given(labels=label_maps, height=st.integers(1, 5))
def test_one_outline_is_the_outer_one_and_the_areas_add_up(labels, height):
    for focus in traced(labels, height):
        areas = [area_of(ring) for ring in focus.rings]
        assert sum(area > 0 for area in areas) == 1
        assert sum(areas) == focus.area_px


@given(labels=label_maps)
def test_the_height_of_the_strips_changes_no_focus(labels):
    def found(height):
        return {
            (f.label, f.y, f.x, f.area_px, frozenset(abs(area_of(r)) for r in f.rings))
            for f in traced(labels, height)
        }

    assert found(1) == found(3) == found(100)


def test_the_corners_of_a_rectangle_are_four():
    labels = np.zeros((300, 40), np.uint8)
    labels[5:280, 10:30] = 1
    (focus,) = traced(labels, 64)
    (ring,) = focus.rings
    assert {tuple(point) for point in ring.tolist()} == {(10, 5), (30, 5), (30, 280), (10, 280)}
    assert len(ring) == 4


def test_foci_come_as_soon_as_they_have_ended():
    labels = np.zeros((9, 5), np.uint8)
    labels[0:2, 0], labels[2:9, 2] = 1, 1
    strips = [(y, labels[y : y + 3]) for y in range(0, 9, 3)]
    assert [[f.x for f in foci] for foci in trace_foci(strips, 5)] == [[0], [], [], [2]]


def test_no_label_at_all_makes_no_focus():
    assert traced(np.zeros((5, 7), np.uint8), 2) == []


@pytest.mark.parametrize("height", [16, 64])
def test_memory_holds_a_strip_and_the_open_outlines(height):
    width, n_strips = 4096, 20
    strip = np.zeros((height, width), np.uint8)
    strip[height // 4 : height // 2, ::64] = 1
    strip[height // 4 : height // 2, 1::64] = 1
    tracemalloc.start()
    n = sum(len(f) for f in trace_foci(((k * height, strip) for k in range(n_strips)), width))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 64 * n_strips
    assert peak < 8 * strip.size + 2e6
