import json
from pathlib import Path

import pyarrow.csv as pc
import pytest

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv

CLASSES = ("tumor", "stroma")
SUMMARY = {
    "tissue_area_mm2": 3.0,
    "tumor_area_mm2": 1.0,
    "tumor_foci": 2,
    "class_area_mm2": {"tumor": 1.0, "stroma": 2.0},
    "mpp": [0.5, 0.25],
    "flags": ["blurred", "seams"],
    "reader": "tiff",
    "versions": {"noctile": "1", "numpy": "2"},
}


def row(slide_id: str, **changes) -> SlideRow:
    values = {
        "slide_id": slide_id,
        "path": Path("/slides") / f"{slide_id}.svs",
        "status": "done",
        "summary": SUMMARY,
        "seconds": 1.5,
    }
    return SlideRow(**{**values, **changes})


def failed(slide_id: str) -> SlideRow:
    return row(
        slide_id, status="failed", reason="unopenable", message="is empty", summary={}, seconds=None
    )


def test_rows_are_sorted_by_the_name_of_the_slide():
    assert cohort_table([row("b"), failed("c"), row("a")], CLASSES)["slide_id"].to_pylist() == [
        "a",
        "b",
        "c",
    ]


def test_the_figures_of_a_done_slide_are_those_of_its_summary():
    (values,) = cohort_table([row("a")], CLASSES).to_pylist()
    assert (values["tissue_area_mm2"], values["tumor_foci"]) == (3.0, 2)
    assert (values["mpp_y"], values["mpp_x"]) == (0.5, 0.25)
    assert values["class_stroma_area_mm2"] == 2.0
    assert values["class_stroma_fraction_of_tissue"] == 0.666667
    assert values["flags"] == "blurred;seams"
    assert values["reader"] == "tiff"
    assert json.loads(values["versions"]) == SUMMARY["versions"]


def test_figures_of_a_failed_slide_are_null_and_not_0():
    (values,) = cohort_table([failed("a")], CLASSES).to_pylist()
    known = {name: value for name, value in values.items() if value is not None}
    assert known == {
        "slide_id": "a",
        "path": "/slides/a.svs",
        "status": "failed",
        "reason": "unopenable",
        "message": "is empty",
        "flags": "",
    }


def test_a_slide_without_tissue_has_areas_but_no_fractions():
    empty = SUMMARY | {"tissue_area_mm2": 0.0, "class_area_mm2": {"tumor": 0.0, "stroma": 0.0}}
    (values,) = cohort_table([row("a", summary=empty)], CLASSES).to_pylist()
    assert values["class_tumor_area_mm2"] == 0.0
    assert values["class_tumor_fraction_of_tissue"] is None


def test_other_columns_of_the_manifest_come_last_and_take_no_name_that_exists():
    rows = [row("a", extra=(("stage", "II"), ("status", "relapse"))), row("b")]
    table = cohort_table(rows, CLASSES)
    assert table.column_names[-2:] == ["stage", "manifest_status"]
    assert table["manifest_status"].to_pylist() == ["relapse", None]
    assert table["status"].to_pylist() == ["done", "done"]


@pytest.mark.parametrize("text", ["=1+1", "@sum", "+cmd"])
def test_text_that_a_spreadsheet_would_run_is_escaped_in_the_csv(tmp_path, text):
    write_csv(cohort_table([row("a", group=text), failed("b")], CLASSES), tmp_path / "s.csv")
    table = pc.read_csv(tmp_path / "s.csv")
    assert table["group"].to_pylist() == [f"'{text}", ""]
    assert table["tissue_area_mm2"].to_pylist() == [3.0, None]
