"""Polygons drawn into pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from noctile.pipeline.geometry import Box
from noctile.pipeline.truth.raster import draw_union


def ring(y: float, x: float, side: float) -> np.ndarray:
    return np.array([[y, x], [y, x + side], [y + side, x + side], [y + side, x]], float)


def test_a_pixel_belongs_to_a_polygon_if_its_centre_lies_inside():
    inside = draw_union([[ring(1.4, 2.6, 3)]], (1.0, 1.0), Box(0, 0, 8, 8))
    expected = np.zeros((8, 8), bool)
    expected[1:4, 3:6] = True
    assert (inside == expected).all()


def test_polygons_that_overlap_are_one_area_and_holes_are_none():
    polygons = [[ring(0, 0, 6), ring(2, 2, 2)], [ring(3, 3, 4)]]
    inside = draw_union(polygons, (1.0, 1.0), Box(0, 0, 8, 8))
    assert inside.sum() == (36 - 4) + (16 - 9) + 1  # the second polygon covers a pixel of the hole
    assert not inside[2, 2]


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.2, 2), st.floats(0.2, 2))
def test_a_part_equals_the_part_of_the_whole(y, x, scale_y, scale_x):
    polygons = [[ring(3.3, 5.1, 20)], [np.array([[30, 2], [50, 40], [10, 60]], float)]]
    whole = draw_union(polygons, (scale_y, scale_x), Box(0, 0, 80, 80))
    part = draw_union(polygons, (scale_y, scale_x), Box(y, x, 30, 25))
    assert (part == whole[y : y + 30, x : x + 25]).all()


def test_another_implementation_draws_the_same_triangle():
    points = np.array([[3.2, 4.1], [40.7, 12.3], [20.1, 55.9]])
    drawn = draw_union([[points]], (1.0, 1.0), Box(0, 0, 60, 60))
    assert (drawn == polygon2mask((60, 60), points - 0.5)).all()


def test_a_centre_on_an_outline_is_inside_in_every_box_or_in_none():
    ring = np.array([(0.0, 0.0), (1.0, 4.0), (77.46229419219478, 77.46229419219478)])
    whole = Box(0, 0, 78, 100)
    drawn = draw_union([[ring]], (1.0, 1.0), whole)
    for y, x in np.ndindex(5, 7):
        part = Box(16 * y, 16 * x, 16, 16).intersect(whole)
        assert np.array_equal(draw_union([[ring]], (1.0, 1.0), part), drawn[part.slices()])
