"""Reviews: statuses, regions, and the areas of what is left."""

import copy
import dataclasses
import time

import numpy as np
import pytest
import shapely
from standins import stored_labels

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.review import (
    DISAGREEMENT,
    MOST_POINTS,
    MOST_REGIONS,
    combined_status,
    excluded_regions,
    region_feature,
    reviewed_areas,
    reviewer_of,
)

NOW = "2026-11-29T06:00:00Z"


def region(*points, reason="pen", **more):
    """Feature of a polygon of x, y."""
    about = {"classification": {"name": reason}, **more}
    geometry = {"type": "Polygon", "coordinates": [[*map(list, points), list(points[0])]]}
    return {"type": "Feature", "geometry": geometry, "properties": about}


def rectangle(x, y, width, height, **more):
    right, below = x + width, y + height
    return region((x, y), (right, y), (right, below), (x, below), **more)


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


@pytest.mark.parametrize(
    ("statuses", "combined"),
    [
        ([], ""),
        (["", ""], ""),
        (["accepted", "", "accepted"], "accepted"),
        (["accepted", "rejected"], DISAGREEMENT),
        (["look_again"], "look_again"),
    ],
)
def test_reviewers_agree_or_disagree(statuses, combined):
    assert combined_status(statuses) == combined


@pytest.fixture(scope="module", params=[((0.5, 0.5), (0.25, 0.25)), ((0.5, 0.6), (0.25, 0.2))])
def source(request, tmp_path_factory):
    """Label map of several blocks, of a slide at 40x with bounds and, once, oblong pixels."""
    mpp, slide_mpp = request.param
    labels = np.full((300, 400), 2, np.uint8)
    labels[50:150, 100:300] = 1
    labels[:, :40] = 0
    made = stored_labels(
        tmp_path_factory.mktemp("m") / "a",
        labels,
        mpp=mpp,
        slide_mpp=slide_mpp,
        bounds_yx=(700, 900),
        block_px=128,
    )
    mm2 = mpp[0] * mpp[1] / 1e6
    figures = {"tissue_area_mm2": (labels > 0).sum() * mm2, "tumor_area_mm2": 20_000 * mm2}
    return dataclasses.replace(made, summary={**made.summary, **figures})


def measured(source, *features):
    """Excluded area, remaining tissue and remaining tumor (mm2)."""
    areas = reviewed_areas(source, excluded_regions(collection(*features), "r"))
    return list(dataclasses.astuple(areas))


def mm2(source, *pixels):
    """Areas of numbers of pixels of the label map; the tables round to 1e-6 mm2."""
    return pytest.approx([n * source.frames[0].pixel_area_mm2 for n in pixels], abs=6e-7)


def test_what_lies_in_a_region_is_left_out_to_a_pixel(source):
    fy, fx = source.qupath_scale  # pixels of the slide for each pixel of the label map
    one = rectangle(90 * fx, 40 * fy, 30 * fx, 20 * fy)  # tumor rows 50..60, columns 100..120
    assert measured(source, one) == mm2(source, 600, 108_000 - 600, 20_000 - 200)
    moved = rectangle((90 + 0.49) * fx, (40 - 0.49) * fy, 30 * fx, 20 * fy)
    assert measured(source, moved) == measured(source, one)
    further = rectangle((90 + 0.51) * fx, 40 * fy, 30 * fx, 20 * fy)
    assert measured(source, further) == mm2(source, 600, 108_000 - 600, 20_000 - 210)


def test_a_pixel_in_two_regions_counts_once_and_the_background_never(source):
    fy, fx = source.qupath_scale
    one, two = (rectangle(x * fx, 0, 50 * fx, 300 * fy) for x in (0, 20))
    assert measured(source, one, two)[:1] == mm2(source, 30 * 300)


def test_a_region_may_cover_all_and_lie_outside(source):
    _, fx = source.qupath_scale
    assert measured(source, rectangle(-1e5, -1e5, 3e5, 3e5)) == mm2(source, 108_000, 0, 0)
    assert measured(source, rectangle(5000 * fx, 10, 20, 20))[0] == 0
    assert measured(source)[0] == 0


def test_a_damaged_summary_is_named(source):
    damaged = dataclasses.replace(source, summary={**source.summary, "tumor_area_mm2": None})
    with pytest.raises(StoreError, match="tumor_area_mm2"):
        reviewed_areas(damaged, [])


HOSTILE = {
    "no features": {"type": "FeatureCollection"},
    "a point": collection(
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    ),
    "no geometry": collection({"type": "Feature", "properties": {}}),
    "text": collection("abc"),
    "nan": collection(rectangle(float("nan"), 0, 5, 5)),
    "far away": collection(rectangle(1e12, 0, 5, 5)),
    "too many": collection(*[rectangle(0, 0, 5, 5)] * (MOST_REGIONS + 1)),
    "too long": collection(region(*[(n, n % 7) for n in range(MOST_POINTS)])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused_with_their_name(name):
    with pytest.raises(UsageError, match=r"a\.geojson"):
        excluded_regions(HOSTILE[name], "a.geojson")


def test_a_region_that_crosses_itself_is_all_that_its_outline_goes_round(source):
    fy, fx = source.qupath_scale
    bow = region(
        (100 * fx, 50 * fy), (200 * fx, 150 * fy), (200 * fx, 50 * fy), (100 * fx, 150 * fy)
    )
    area = 5_000 * source.frames[0].pixel_area_mm2
    assert measured(source, bow)[0] == pytest.approx(area, rel=0.03)
    corners = [(60 * fx, 20 * fy), (160 * fx, 20 * fy), (160 * fx, 90 * fy), (60 * fx, 90 * fy)]
    twice = region(*corners, corners[0], *corners)  # a loop that is drawn twice is no hole
    assert measured(source, twice)[:1] == mm2(source, 100 * 70)


def test_regions_that_cross_overlap_and_have_holes_are_those_of_shapely(source):
    fy, fx = source.qupath_scale
    rng = np.random.default_rng(1)
    scribbles = [region(*rng.uniform((0, 0), (400 * fx, 300 * fy), (9, 2))) for _ in range(4)]
    outer, hole = rectangle(50, 40, 300, 200), rectangle(90, 80, 60, 60)
    outer["geometry"]["coordinates"] += [hole["geometry"]["coordinates"][0][::-1]]
    features = [*scribbles, outer, rectangle(100, 90, 20, 20)]
    shapes = [shapely.make_valid(shape, method="structure") for shape in map(_polygon, features)]
    y, x = np.mgrid[:300, :400] + 0.5
    inside = shapely.contains_xy(shapely.union_all(shapes), x * fx, y * fy)
    assert measured(source, *features)[:1] == mm2(source, int(inside[:, 40:].sum()))


def _polygon(feature):
    outer, *holes = feature["geometry"]["coordinates"]
    return shapely.Polygon(outer, holes)


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        ([region((0, 0), (9e3, 9e3), (9e3, 0), (0, 9e3))] * 21, "cross themselves cover the slide"),
        ([region(*[(n, n % 2 * 1_000_000) for n in range(90_000)])], "too long; simplify"),
    ],
)
def test_regions_that_would_take_minutes_are_refused_at_once(source, hostile, message):
    start = time.perf_counter()
    with pytest.raises(UsageError, match=message):
        measured(source, *hostile)
    assert time.perf_counter() - start < 10


def test_regions_that_cover_the_slide_a_thousand_times_take_no_longer(source):
    start = time.perf_counter()
    comb = [(x, y) for x in range(0, 160, 8) for y in ((0, 600) if x % 16 else (600, 0))]
    everywhere = region(*comb, (160, 700), (-9, 700), (-9, 0))
    assert measured(source, *[everywhere] * MOST_REGIONS)[0] > 0
    assert time.perf_counter() - start < 10


def test_a_saved_region_has_what_qupath_reads_and_nothing_else():
    drawn = rectangle(0, 0, 5, 5, reason="fold", metadata={"reviewer": "eve"}, evil="<script>")
    saved = region_feature(drawn | {"id": "1", "more": 1}, "ada", NOW)
    about = saved["properties"]
    assert about["classification"] == {"name": "fold", "color": [153, 79, 0]}
    assert about["metadata"] == {"reviewer": "ada", "time": NOW}
    assert set(saved) == {"type", "id", "geometry", "properties"}
    assert "evil" not in about
    again = region_feature(copy.deepcopy(saved), "ada", "2027-01-01T00:00:00Z")
    assert again == saved  # id and time stay
    assert reviewer_of(saved) == "ada"


@pytest.mark.parametrize("reason", [None, "", "mud", 5, ["pen"]])
def test_a_region_needs_a_known_reason(reason):
    with pytest.raises(UsageError, match="pen, fold, wrong_block, other"):
        region_feature(rectangle(0, 0, 5, 5, reason=reason), "ada", NOW)


@pytest.mark.parametrize("feature", [None, {}, {"properties": []}, {"properties": {"metadata": 1}}])
def test_a_region_without_a_reviewer_has_none(feature):
    assert reviewer_of(feature) == ""
