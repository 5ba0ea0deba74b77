import json

import pytest

from noctile.workflows.viewer.details import focus_list, slide_document


@pytest.fixture
def view(own, views_of):
    return views_of(own).get("a")


def test_the_description_has_layers_classes_and_figures(view):
    about = slide_document(view)
    json.dumps(about, allow_nan=False)
    size = {"width": 1500, "height": 1300, "mpp_x": 0.5, "mpp_y": 0.5}
    assert about["slide"] == size | {"tile_px": 512, "levels": 3}
    assert about["mask"] == about["slide"]
    assert about["heat"]["width"] == 188
    assert about["origin_px"] == [0, 0]
    assert [info["name"] for info in about["classes"]] == ["tumor", "stroma"]
    areas = {info["name"]: info["area_mm2"] for info in about["classes"]}
    assert areas == view.result.area_mm2
    assert about["figures"]["tumor_area_mm2"] == areas["tumor"]
    assert about["units"]["tumor_area_mm2"] == "mm²"
    assert (about["source"], about["notice"]) == ("slide", "")


def test_flags_come_with_their_meaning(view):
    view.result.__dict__["summary"] = view.result.summary | {"qc_flags": ["blurred", "of old"]}
    flags = slide_document(view)["qc_flags"]
    assert flags[0] == {
        "name": "blurred",
        "meaning": "more than a quarter of the tiles is out of focus",
    }
    assert flags[1] == {"name": "of old", "meaning": ""}


def test_bounds_are_the_origin(view):
    bounds = {"bounds_px": [30, 40, 1300, 1500]}
    view.result.__dict__["summary"] = view.result.summary | bounds
    about = slide_document(view)
    assert about["origin_px"] == [30, 40]
    assert (about["level0"]["height"], about["level0"]["width"]) == (1300, 1500)


@pytest.mark.parametrize(
    "damage", [{"bounds_px": "x"}, {"bounds_px": [1e400] * 4}, {"tumor_area_mm2": float("nan")}]
)
def test_damaged_figures_are_still_json(view, damage):
    view.result.__dict__["summary"] = view.result.summary | damage
    json.dumps(slide_document(view), allow_nan=False)


def test_foci_are_boxes_in_pixels_of_the_slide(view):
    (focus,) = focus_list(view)
    assert focus["area_mm2"] == view.result.summary["largest_focus_mm2"]
    y, x, height, width = (int(focus[name]) for name in ("y", "x", "height", "width"))
    tumor = view.result.mask()[:][y : y + height, x : x + width] == 1
    assert tumor.sum() * 0.25e-6 == pytest.approx(focus["area_mm2"], rel=0.1)
    assert tumor[:8].any()
    assert tumor[:, :8].any()
