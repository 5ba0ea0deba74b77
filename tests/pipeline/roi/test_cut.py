"""Polygons on a label map, compared with shapely."""

import tracemalloc

import numpy as np
import pytest
import shapely

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.roi import cut as module
from noctile.pipeline.roi.cut import Cut, strips

SQUARE = np.array([[10.0, 10], [10, 50], [50, 50], [50, 10]])
BOW = np.array([[10.3, 10.1], [50.3, 50.1], [50.3, 10.1], [10.3, 50.1]])
WHOLE = Box(0, 0, 40, 40)


def test_a_box_of_a_cut_equals_the_same_part_of_the_whole():
    found = Cut([[SQUARE, SQUARE / 2 + 15]], (0.5, 0.5), WHOLE)
    whole, part = found.inside(WHOLE), Box(7, 3, 11, 30)
    hole = shapely.box(10, 10, 20, 20)
    y, x = np.mgrid[:40, :40] + 0.5
    expected = shapely.contains_xy(shapely.box(5, 5, 25, 25) - hole, x, y)
    assert np.array_equal(whole, expected)
    assert np.array_equal(found.inside(part), whole[part.slices()])


def test_a_large_box_is_drawn_in_strips(monkeypatch):
    found, box = Cut([[SQUARE * 20]], (1, 1), Box(0, 0, 1100, 1100)), Box(0, 0, 1100, 1100)
    at_once = found.inside(box)
    monkeypatch.setattr(module, "_STRIP_PX", 16)
    tracemalloc.start()
    try:
        in_strips, peak = found.inside(box), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(in_strips, at_once)
    assert peak < 1.5 * box.area


def test_an_outline_that_crosses_itself_holds_all_that_it_goes_round():
    y, x = np.mgrid[:60, :60] + 0.5
    middle = (30.3, 30.1)
    halves = [shapely.Polygon([*BOW[k], middle]) for k in ([0, 3], [1, 2])]
    expected = np.any([shapely.contains_xy(half, y, x) for half in halves], axis=0)
    found = Cut([[BOW]], (1, 1), Box(0, 0, 60, 60)).inside(Box(0, 0, 60, 60))
    assert found.sum() == pytest.approx(800, abs=40)
    assert np.array_equal(found, expected)


def test_a_cut_knows_the_boxes_that_it_touches_and_its_area():
    found = Cut([[SQUARE]], (1, 1), WHOLE)
    assert found.touches(Box(20, 20, 1, 1))
    assert not found.touches(Box(60, 0, 9, 99))
    assert found.cover_px == 31 * 31  # one pixel around, cut to the label map
    assert not Cut([], (1, 1), WHOLE).touches(WHOLE)


def test_polygons_that_take_minutes_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="cross themselves"):
        Cut([[BOW]] * 60, (1, 1), WHOLE)
    monkeypatch.setattr(module, "MOST_ROWS", 79)
    with pytest.raises(UsageError, match="too long"):
        Cut([[SQUARE], [SQUARE + 1]], (1, 1), WHOLE)


def test_strips_cover_a_box_once():
    found = list(strips(Box(5, 7, 2500, 9)))
    assert [(b.y, b.height) for b in found] == [(5, 1024), (1029, 1024), (2053, 452)]
    assert {(b.x, b.width) for b in found} == {(7, 9)}
