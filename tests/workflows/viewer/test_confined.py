"""Outlines of what a slide was confined to."""

import json

import numpy as np
import pytest
import shapely
from roi_files import drawn
from viewer_client import REGIONS, TISSUE_BOX, TWO, make_confined_results

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Extent, Frame
from noctile.workflows.viewer.confined import confined_document
from noctile.workflows.viewer.details import slide_document


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_confined_results(tmp_path_factory.mktemp("confined"))


@pytest.fixture
def view_of(results, views_of):
    views = views_of(results)
    return views.get


def inside(outline) -> np.ndarray:
    """Pixels of level 0 that lie inside the rings of an outline, by the even-odd rule."""
    found = shapely.Polygon()
    for ring in outline["rings"]:
        found = found ^ shapely.Polygon(ring)
    frame = Frame(Extent(1300, 1500), 0.5, 0.5)
    return drawn([{"geometry": shapely.geometry.mapping(found)}], frame, (0.5, 0.5))


def test_regions_have_their_outlines_with_holes_and_parts(view_of):
    about = slide_document(view_of("a"))["confined"]
    json.dumps(about, allow_nan=False)
    assert about["text"] == "2 regions of interest"
    assert [(one["name"], one["kind"], len(one["rings"])) for one in about["outlines"]] == [
        ("bed", "region", 2),
        (TWO, "region", 2),
        ("Ignore*", "ignored", 1),
    ]
    frame = Frame(Extent(1300, 1500), 0.5, 0.5)
    for outline, region in zip(about["outlines"], REGIONS, strict=True):
        assert np.array_equal(inside(outline), drawn([region], frame, (0.5, 0.5)))


def test_regions_have_the_areas_of_the_table(view_of):
    view = view_of("a")
    outlines = confined_document(view)["outlines"][:2]
    regions = view.result.regions
    for name in ("tissue_area_mm2", "tumor_area_mm2"):
        assert [one[name] for one in outlines] == regions[name].to_list()


def test_a_given_mask_has_the_outline_of_its_tissue(view_of):
    about = confined_document(view_of("b"))
    assert about["text"] == "a given tissue mask"
    (tissue,) = about["outlines"]
    assert (tissue["name"], tissue["kind"]) == ("tissue mask", "tissue")
    x, y, width, height = TISSUE_BOX
    expected = np.zeros((1300, 1500), np.bool_)
    expected[y : y + height, x : x + width] = True
    assert (inside(tissue) != expected).sum() < 0.002 * expected.sum()


def test_a_slide_that_was_analysed_whole_has_none(view_of):
    assert slide_document(view_of("c"))["confined"] is None


@pytest.mark.parametrize("damage", [{"regions": 5}, {"regions": [{"region": "bed"}]}])
def test_damaged_figures_are_named(damage, view_of, monkeypatch):
    view = view_of("a")
    monkeypatch.setitem(view.result.__dict__, "summary", view.result.summary | damage)
    with pytest.raises(StoreError, match=r"summary\.json is damaged"):
        confined_document(view)


def test_a_damaged_plan_is_named(view_of, results, monkeypatch):
    view, plan = view_of("a"), results / "slides" / "a" / "plan.json"
    content = plan.read_text()
    try:
        plan.write_text("{}")
        with pytest.raises(StoreError, match=r"plan\.json cannot be read"):
            confined_document(view)
    finally:
        plan.write_text(content)
