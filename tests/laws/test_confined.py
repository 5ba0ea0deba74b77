"""Law: a confined slide is the whole slide times its regions, and nothing outside is predicted."""

import json

import numpy as np
import pytest
import shapely
import standins
from hypothesis import given, settings
from hypothesis import strategies as st
from roi_files import drawn, feature

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.roi.confine import confine
from noctile.pipeline.roi.regions import read_roi
from noctile.pipeline.segment import segment_block
from noctile.pipeline.tissue_mask import TissueMask


@st.composite
def triangles(draw: st.DrawFn, height: int, width: int):
    """Features of one to three triangles on a slide, none of them a line."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        place = st.tuples(st.floats(0, width), st.floats(0, height))
        (x, y), *others = (draw(place) for _ in "abc")
        (dx, dy), (ex, ey) = ((u - x, v - y) for u, v in others)
        if abs(dx * ey - dy * ex) > 20:
            found.append(feature([(x, y), *others]))
    return found


def labels_of(plan: TilePlan, pixels: np.ndarray, tissue: TissueMask) -> np.ndarray:
    slide, net = standins.ArraySlide(pixels), standins.PositionNet(standins.card())
    out = np.zeros((plan.frame.extent.height, plan.frame.extent.width), np.uint8)
    for block in plan.blocks:
        out[block.box.slices()] = segment_block(slide, plan, block, tissue, net, 4).labels
    return out


@settings(max_examples=25)
@given(
    st.integers(20, 260),
    st.integers(20, 260),
    st.sampled_from([(8.0, 64), (5.0, 128), (2.5, 400)]),
    st.integers(0, 99),
    st.data(),
)
def test_labels_are_those_of_the_whole_slide_times_the_regions(height, width, sizes, seed, data):
    tissue_mpp, block_px = sizes
    features = data.draw(triangles(height, width))
    if not features:
        return
    native = Frame(Extent(height, width), 1.0, 1.0)
    rng, shape = np.random.default_rng(seed), native.at(tissue_mpp).extent
    mask = rng.random((shape.height, shape.width)) < 0.6
    free = TissueMask(mask, native.at(tissue_mpp), "", ())
    roi = read_roi(json.dumps(features).encode(), "a", native)
    confined = confine(free, roi)
    tiling = Tiling(1.0, 64, 16, "crop", block_px, 3)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole, part = (plan_tiles("s", native, tissue, tiling) for tissue in (free, confined))
    inside = roi.inside(native.box, native)
    expected = drawn(features, native, (1.0, 1.0))
    shapes = [shapely.geometry.shape(one["geometry"]) for one in features]
    y, x = np.nonzero(inside != expected)
    centres = shapely.points(x + 0.5, y + 0.5)
    outlines = shapely.union_all([shape.boundary for shape in shapes])
    assert (shapely.distance(centres, outlines) < 1e-6).all()  # centres on an outline: either way
    assert np.array_equal(
        labels_of(part, pixels, confined), labels_of(whole, pixels, free) * inside
    )
    assert set(part.tiles) <= set(whole.tiles)
    for position in part.tiles:  # at most two pixels of the tissue mask beyond a region
        reach = part.grid.core(*position).grow(round(2 * tissue_mpp)).intersect(native.box)
        around = shapely.box(reach.x, reach.y, reach.x_stop, reach.y_stop)
        assert any(around.intersects(shape) for shape in shapes)


def test_a_small_region_costs_a_small_share():
    native = Frame(Extent(6000, 6000), 0.5, 0.5)
    tissue = TissueMask(np.ones((375, 375), bool), native.at(8.0), "", ())
    corner = 6000 * (1 - 0.05**0.5) / 2
    square = [(corner, corner), (6000 - corner, corner), (6000 - corner, 6000 - corner)]
    square.append((corner, 6000 - corner))
    roi = read_roi(json.dumps(feature(square)).encode(), "a", native)
    tiling = Tiling(0.5, 128, 32, "crop", 4096, 3)
    plans = [plan_tiles("s", native, t, tiling) for t in (tissue, confine(tissue, roi))]
    share = plans[1].predictions / plans[0].predictions
    assert share == pytest.approx(0.05, abs=0.012)  # tiles at the border count whole
    assert share >= 0.05
