"""Polygons of foci: valid, true in area, and around the centres of their pixels."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label

from noctile.pipeline.export.shapes import AREA_TOLERANCE, Scale, polygons_of
from noctile.pipeline.export.trace import trace_foci

EVEN = Scale(0.5, 0.5, 2.0, 2.0)
UNEVEN = Scale(0.6, 0.5, 0.6 / 0.2527, 0.5 / 0.21)

label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 1, 2]))
)


def foci_of(labels: np.ndarray) -> list:
    return [focus for foci in trace_foci([(0, labels)], labels.shape[1]) for focus in foci]


def nests(side: int, sigma: float) -> np.ndarray:
    """Label map of two classes with curved borders, and glass in between."""
    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((side, side)), sigma)
    return np.digitize(field, [0.2 * -field.std(), 0.2 * field.std()]).astype(np.uint8)


def check_pixels(labels: np.ndarray, scale: Scale, simplify_um: float) -> None:
    """Check that each polygon is valid and holds the centres of its pixels, and no others."""
    foci = foci_of(labels)
    components = label(labels, connectivity=1, background=0)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]] + 0.5
    for focus, polygon in zip(foci, polygons_of(foci, scale, simplify_um), strict=True):
        assert polygon.geom_type == "Polygon"
        assert polygon.is_valid
        inside = shapely.contains_xy(polygon, x * scale.x, y * scale.y)
        assert np.array_equal(inside, components == components[focus.y, focus.x])
        assert polygon.area / (scale.y * scale.x) == pytest.approx(focus.area_px, rel=0.003)


@pytest.mark.parametrize("scale", [EVEN, UNEVEN])
@pytest.mark.parametrize("simplify_um", [0.0, 0.15])
@given(labels=label_maps)
def test_polygons_are_valid_and_hold_exactly_their_pixels(scale, simplify_um, labels):
    check_pixels(labels, scale, simplify_um)


@pytest.mark.parametrize("scale", [EVEN, UNEVEN])
def test_curved_borders_are_simplified_without_moving_a_pixel(scale):
    labels = nests(160, 6)
    check_pixels(labels, scale, 0.15)
    foci = foci_of(labels)
    exact, simple = (polygons_of(foci, scale, um) for um in (0.0, 0.15))
    n_exact, n_simple = (shapely.get_num_coordinates(p).sum() for p in (exact, simple))
    assert n_simple < 0.75 * n_exact


def test_no_outline_moves_further_than_stated():
    foci = foci_of(nests(300, 8))
    scale = Scale(0.5, 0.5, 1.0, 1.0)
    rough = polygons_of(foci, scale, 2.0)
    middle = polygons_of(foci, scale, 1e-9)
    pairs = zip(rough, middle, strict=True)
    moved = [a.exterior.hausdorff_distance(b.exterior) * 0.5 for a, b in pairs]
    assert max(moved) <= 2.0
    n_rough, n_middle = (shapely.get_num_coordinates(p).sum() for p in (rough, middle))
    assert n_rough < 0.8 * n_middle


@pytest.mark.parametrize("simplify_um", [0.15, 2.0, 50.0])
def test_areas_stay_however_much_is_simplified(simplify_um):
    foci = foci_of(nests(300, 4))
    polygons = polygons_of(foci, EVEN, simplify_um)
    assert shapely.is_valid(polygons).all()
    area_px = shapely.area(polygons) / 4
    assert np.abs(area_px / [f.area_px for f in foci] - 1).max() <= AREA_TOLERANCE + 1e-9


def test_a_hole_that_touches_the_outer_outline_over_a_corner_stays_a_hole():
    labels = np.ones((5, 5), np.uint8)
    labels[1:4, 1:4] = 0
    labels[1, 1] = 1
    labels[0, 0], labels[1, 1] = 0, 1
    labels[2, 2] = 1  # touches (1, 1) over a corner only: another focus
    check_pixels(labels, EVEN, 0.0)
    check_pixels(labels, EVEN, 0.15)


def test_small_holes_are_filled_on_request():
    labels = np.ones((40, 40), np.uint8)
    labels[5:7, 5:7] = 0
    labels[20:30, 20:30] = 0
    (kept,) = polygons_of(foci_of(labels), EVEN, 0.15)
    (filled,) = polygons_of(foci_of(labels), EVEN, 0.15, min_hole_um2=2.0)
    assert (len(kept.interiors), len(filled.interiors)) == (2, 1)
    assert filled.area == pytest.approx(4 * (1600 - 100), rel=AREA_TOLERANCE)


def test_no_focus_makes_no_polygon():
    assert list(polygons_of([], EVEN, 0.15)) == []
    assert list(polygons_of([], EVEN, 0.0)) == []
