"""Coordinates of a focus with very long outlines: those of a polygon made at once."""

import json

import numpy as np
import pytest
import shapely
from scipy import ndimage

from noctile.pipeline.export import large_focus
from noctile.pipeline.export.large_focus import coordinates_of
from noctile.pipeline.export.shapes import Scale, polygons_of
from noctile.pipeline.export.trace import Focus, trace_foci

SCALE = Scale(0.5, 0.6, 2.0, 3.0)


def largest(labels: np.ndarray) -> Focus:
    foci = [focus for part in trace_foci([(0, labels)], labels.shape[1]) for focus in part]
    return max(foci, key=lambda focus: focus.area_px)


@pytest.fixture(scope="module")
def lace() -> Focus:
    """Stroma with many holes, which touch each other over corners."""
    field = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((200, 300)), 3)
    labels = (field > -0.5 * field.std()).astype(np.uint8)
    labels[::20, ::20] ^= 1
    return largest(labels)


def polygon_of(focus: Focus, *limits: float) -> shapely.Polygon:
    coordinates = json.loads("".join(coordinates_of(focus, SCALE, *limits)))
    return shapely.from_geojson(json.dumps({"type": "Polygon", "coordinates": coordinates}))


@pytest.mark.parametrize("limits", [(0.15,), (0.0,), (0.15, 30.0)])
def test_batches_make_the_polygon_that_is_made_at_once(lace, monkeypatch, limits):
    monkeypatch.setattr(large_focus, "LARGE_CORNERS", 50)
    (at_once,) = polygons_of([lace], SCALE, *limits)
    in_batches = polygon_of(lace, *limits)
    assert in_batches.is_valid
    assert len(in_batches.interiors) == len(at_once.interiors) > 5
    assert in_batches.area == pytest.approx(at_once.area, rel=1e-9)
    assert in_batches.symmetric_difference(at_once).area < 1e-6 * at_once.area


def test_no_more_is_simplified_than_keeps_outlines_apart(lace):
    assert polygon_of(lace, 50.0).equals(polygon_of(lace, 0.15))


def test_a_lace_whose_area_would_change_keeps_the_pixel_edges():
    labels = np.ones((41, 41), np.uint8)
    labels[1::2, 1::2] = 0
    focus = largest(labels)
    polygon = polygon_of(focus, 0.15)
    assert polygon.is_valid
    assert polygon.area == pytest.approx(focus.area_px * 6, rel=1e-9)
