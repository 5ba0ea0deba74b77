"""Types of the values in a summary."""

import pytest

from noctile.workflows.results.summaries import is_sound

SOUND = {
    "key": "k",
    "path": "/a.svs",
    "class_area_mm2": {"tumor": 1, "fat": 0.5},
    "mpp": [0.5, 0.25],
    "qc_flags": ["blurred"],
    "tumor_area_mm2": 1.5,
    "tumor_foci": 2,
    "largest_focus_mm2": None,
    "reader": "tiled-tiff",
    "tile_px": [[1]],
    "roi_area_mm2": 2.0,
    "regions": [
        {
            "region": "A",
            "region_class": None,
            "region_area_mm2": 2,
            "tissue_area_mm2": 0.0,
            "tumor_area_mm2": 0.0,
            "tumor_fraction_of_tissue": None,
            "class_area_mm2": {"tumor": 0.0},
        }
    ],
}


def test_a_summary_as_a_run_writes_it_is_sound():
    assert is_sound(SOUND)
    assert is_sound({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", 1),
        ("roi_area_mm2", "2"),
        ("regions", None),
        ("regions", [1]),
        ("regions", SOUND["regions"] * 1001),
        ("regions", [{}]),
        *(
            ("regions", [SOUND["regions"][0] | wrong])
            for wrong in (
                {"region": 1},
                {"region": "\ud800"},
                {"region_class": 2},
                {"region_area_mm2": None},
                {"tumor_fraction_of_tissue": "x"},
                {"class_area_mm2": {"tumor": None}},
                {"class_area_mm2": []},
            )
        ),
        ("path", None),
        ("class_area_mm2", [1]),
        ("class_area_mm2", {"tumor": "1"}),
        ("class_area_mm2", {"\ud800": 1}),
        ("class_area_mm2", {str(n): 1 for n in range(256)}),
        ("mpp", 0.5),
        ("mpp", [0.5]),
        ("mpp", [True, 0.5]),
        ("qc_flags", [1]),
        ("qc_flags", ["x"] * 256),
        ("tumor_area_mm2", "1"),
        ("tumor_area_mm2", 10**400),
        ("tumor_foci", 1.5),
        ("tiles", 2**63),
        ("reader", ["x"]),
        ("vendor", "\ud800"),
        ("measures", [1]),
        ("measures", {"tumor_stroma_ratio": "0.5"}),
        ("measures", {"tumor_stroma_class": 1}),
    ],
)
def test_a_value_of_another_type_is_found(name, value):
    assert not is_sound(SOUND | {name: value})
