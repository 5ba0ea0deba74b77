"""Regions of interest: names, places on the slide, and the pixels that they hold."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roi_files import box, drawn, feature

from noctile.pipeline.errors import RoiError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.roi import regions as module
from noctile.pipeline.roi.regions import MAX_REGIONS, near_regions, read_roi, roi_features

NATIVE = Frame(Extent(1000, 1200), 0.25, 0.3)
LABELS = NATIVE.at(0.5)


def content(*features) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def roi_of(*features):
    return read_roi(content(*features), "a.geojson", NATIVE)


def test_regions_are_named_by_themselves_their_class_or_their_number():
    square = box(10, 10, 50, 50)
    roi = roi_of(
        feature(square, name="core"),
        feature(square, label="Tumor"),
        feature(square),
        feature(square, label="Tumor"),
        feature(square, name="Tumor 2"),
        feature(square, name="=cmd()\n", label="Region*"),
    )
    names = [region.name for region in roi.regions]
    assert names == ["core", "Tumor", "region 3", "Tumor 3", "Tumor 2", r"=cmd()\n"]
    assert [region.label for region in roi.regions] == ["", "Tumor", "", "Tumor", "", "Region*"]


def test_ignored_areas_are_cut_out_and_need_a_region():
    features = feature(box(0, 0, 400, 400)), feature(box(100, 100, 90, 80), label="Ignore*")
    roi = roi_of(*features)
    found = roi.inside(LABELS.box, LABELS)
    keep, ignored = (drawn([f], LABELS, (0.25, 0.3)) for f in features)
    assert [region.name for region in roi.regions] == ["region 1"]
    assert np.array_equal(found, keep & ~ignored)
    with pytest.raises(RoiError, match="no region, only areas of the class"):
        roi_of(features[1])


def test_regions_are_read_back_as_they_were_written():
    first = roi_of(
        feature(box(1 / 3, 0.1, 77.7, 3e2), box(20, 20, 9, 9), name="A", label="Stroma"),
        feature(box(500, 500, 20, 30), label="Ignore*"),
        feature(box(400, 400, 300, 300)),
    )
    written = json.dumps(roi_features(first)).encode()
    again = read_roi(written, "b.geojson", NATIVE)
    assert roi_features(again) == roi_features(first)
    assert [region.name for region in again.regions] == ["A", "region 2"]
    assert np.array_equal(again.inside(LABELS.box, LABELS), first.inside(LABELS.box, LABELS))


def test_many_ignored_areas_are_read_back():
    """QuPath has areas of one annotation in one feature."""
    parts = [feature(box(x, y, 2, 2)) for x in range(0, 400, 10) for y in range(0, 300, 10)]
    ignored = feature(label="Ignore*")
    ignored["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [part["geometry"]["coordinates"] for part in parts],
    }
    first = roi_of(feature(box(0, 0, 400, 400), name="A"), ignored)
    again = read_roi(json.dumps(roi_features(first)).encode(), "b.geojson", NATIVE)
    assert roi_features(again) == roi_features(first)
    assert len(again.ignored) == len(first.ignored) == len(parts) > MAX_REGIONS


def test_a_list_one_feature_and_gzip_are_read():
    one = feature(box(1, 1, 9, 9), name="x")
    for text in (json.dumps([one]), json.dumps(one)):
        assert read_roi(text.encode(), "a", NATIVE).regions[0].name == "x"
    assert read_roi(gzip.compress(content(one)), "a", NATIVE).regions[0].name == "x"


POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
HOSTILE = {
    "no json": b"{",
    "no features": b'{"features": []}',
    "a number": b"7",
    "a point": content(POINT),
    "text": content("abc"),
    "no geometry": content({"type": "Feature"}),
    "not a number": content(feature(box(float("nan"), 0, 5, 5))),
    "a class of numbers": content(
        {**feature(box(1, 1, 5, 5)), "properties": {"classification": {"names": [1, 2]}}}
    ),
    "too many": content(*[feature(box(0, 0, 5, 5))] * (module.MAX_REGIONS + 1)),
    "a bomb": gzip.compress(bytes(module.MAX_BYTES + 1)),
    "deep": b"[" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused_with_their_name(name):
    with pytest.raises(RoiError, match=r"a\.geojson"):
        read_roi(HOSTILE[name], "a.geojson", NATIVE)


def test_too_many_points_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_POINTS", 9)
    with pytest.raises(RoiError, match=r"a\.geojson holds more than 9 points"):
        roi_of(feature(box(0, 0, 5, 5)), feature(box(0, 0, 5, 5)))


@pytest.mark.parametrize(
    "corner",
    [(1300, 10, 50, 50), (-60, 10, 50, 50), (1190, 10, 40, 50), (10, -20, 50, 90), (5, 990, 9, 40)],
)
def test_regions_that_reach_outside_are_refused(corner):
    with pytest.raises(RoiError, match=r"'region 1' reaches .* another slide"):
        roi_of(feature(box(*corner)))


def test_a_hand_may_slip_at_the_border_and_an_area_may_not_be_nothing():
    assert roi_of(feature(box(-11, -5, 1220, 1010))).inside(LABELS.box, LABELS).all()
    with pytest.raises(RoiError, match="'line' is empty"):
        roi_of(feature([(5, 5), (50, 5), (90, 5)], name="line"))


def test_regions_that_take_minutes_are_refused():
    roi = roi_of(*[feature(box(0, 0, 1200, 1000))] * 21)
    with pytest.raises(RoiError, match="more than 20 times"):
        roi.inside(LABELS.box, LABELS)


points = st.lists(
    st.tuples(st.floats(-5, 1205), st.floats(-5, 1005)), min_size=3, max_size=7, unique=True
)


@settings(max_examples=40)
@given(st.lists(points, min_size=1, max_size=3), st.integers(0, 900), st.integers(0, 900))
def test_no_pixel_in_a_region_lies_outside_of_the_coarse_pixels_near_it(rings, y, x):
    try:
        roi = roi_of(*(feature(ring) for ring in rings))
    except RoiError:
        return  # a line without area, or outside
    coarse = NATIVE.at(8.0)
    near, inside = near_regions(roi, coarse), roi.inside(LABELS.box, LABELS)
    rows, cols = np.nonzero(inside)
    ratio_y, ratio_x = LABELS.mpp_y / coarse.mpp_y, LABELS.mpp_x / coarse.mpp_x
    below = (((rows + 0.5) * ratio_y).astype(int), ((cols + 0.5) * ratio_x).astype(int))
    assert near[below].all()
    part = Box(y, x, 70, 90)
    expected = np.zeros((70, 90), bool)
    inner = part.intersect(LABELS.box)
    expected[inner.slices(part)] = inside[inner.slices()]
    assert np.array_equal(
        roi.inside(part, LABELS)[inner.slices(part)], expected[inner.slices(part)]
    )


def test_near_pixels_are_few():
    roi = roi_of(feature(box(500, 500, 96, 96)))
    coarse = NATIVE.at(8.0)
    assert np.count_nonzero(near_regions(roi, coarse)) <= (3 + 4) * (3.6 + 4)
