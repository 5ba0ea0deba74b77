from datetime import date
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.errors import StoreError

CLASSES = ("tumor", "stroma")
SUMMARY = {
    "tissue_area_mm2": 3.0,
    "tumor_area_mm2": 1.0,
    "tumor_foci": 2,
    "class_area_mm2": {"tumor": 1.0, "stroma": 2.0},
    "mpp": [0.5, 0.25],
    "qc_flags": ["blurred", "seams"],
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
    assert values["qc_flags"] == ["blurred", "seams"]
    assert values["reader"] == "tiff"


def test_figures_of_a_failed_slide_are_null_and_not_0():
    (values,) = cohort_table([failed("a")], CLASSES).to_pylist()
    known = {name: value for name, value in values.items() if value is not None}
    assert known == {
        "slide_id": "a",
        "path": "/slides/a.svs",
        "status": "failed",
        "reason": "unopenable",
        "message": "is empty",
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


def test_the_row_names_the_run_and_tells_reason_and_message_apart():
    (values,) = cohort_table([failed("a")], CLASSES).to_pylist()
    assert (values["reason"], values["message"], values["run"]) == ("unopenable", "is empty", None)
    (values,) = cohort_table([row("a", run="20261129T013000.123Z")], CLASSES).to_pylist()
    assert (values["reason"], values["run"]) == (None, "20261129T013000.123Z")


def test_versions_and_the_name_flags_which_pandas_uses_are_no_columns():
    assert not {"versions", "flags"} & set(cohort_table([row("a")], CLASSES).column_names)


def test_flags_of_a_summary_of_an_earlier_version_are_read():
    earlier = {"flags": ["blurred"]}
    (values,) = cohort_table([row("a", summary=earlier)], CLASSES).to_pylist()
    assert values["qc_flags"] == ["blurred"]


def test_classes_that_a_summary_lacks_are_null():
    (values,) = cohort_table([row("a")], [*CLASSES, "necrosis"]).to_pylist()
    assert values["class_necrosis_area_mm2"] is None


MANIFEST = {
    "age": ("61", "", 61, None),
    "alive": ("TRUE", "false", True, False),
    "block": ("007", "7", "007", "7"),
    "dose": ("0,50", "2", 0.5, 2.0),
    "empty": ("", "", None, None),
    "seen": ("2026-11-29", "", date(2026, 11, 29), None),
}


def manifest_rows() -> list[SlideRow]:
    return [
        row(name, extra=tuple((header, cells[k]) for header, cells in MANIFEST.items()))
        for k, name in enumerate(["a", "b"])
    ]


def test_columns_of_the_manifest_have_the_types_of_their_cells():
    table = cohort_table(manifest_rows(), CLASSES)
    found = {name: tuple(table[name].to_pylist()) for name in MANIFEST}
    assert found == {name: cells[2:] for name, cells in MANIFEST.items()}


def test_the_csv_file_has_the_cells_of_the_manifest_as_they_were(tmp_path):
    write_csv(cohort_table(manifest_rows(), CLASSES, typed=False), tmp_path / "s.csv")
    as_text = pc.ConvertOptions(column_types=dict.fromkeys(MANIFEST, "string"))
    table = pc.read_csv(tmp_path / "s.csv", convert_options=as_text)
    found = {name: tuple(table[name].to_pylist()) for name in MANIFEST}
    assert found == {name: cells[:2] for name, cells in MANIFEST.items()}
    assert table["qc_flags"].to_pylist() == ["blurred;seams", "blurred;seams"]


def test_slides_without_flags_have_an_empty_cell_in_the_csv_file(tmp_path):
    rows = [row("a", summary=SUMMARY | {"qc_flags": []}), row("b"), failed("c")]
    table = cohort_table(rows, CLASSES)
    assert table["qc_flags"].to_pylist() == [[], ["blurred", "seams"], None]
    write_csv(table, tmp_path / "s.csv")
    assert pc.read_csv(tmp_path / "s.csv")["qc_flags"].to_pylist() == ["", "blurred;seams", ""]


def test_every_field_of_the_parquet_file_has_unit_and_description(tmp_path):
    pq.write_table(cohort_table(manifest_rows(), CLASSES), tmp_path / "s.parquet")
    about = {field.name: field.metadata for field in pq.read_schema(tmp_path / "s.parquet")}
    assert all(metadata[b"description"] for metadata in about.values())
    assert about["class_stroma_area_mm2"][b"unit"].decode() == "mm²"
    assert about["age"][b"description"] == b"column age of the manifest"


def test_pandas_reads_text_that_may_be_missing_as_categories_and_nothing_it_cannot_write(tmp_path):
    """AnnData writes categories, and no text column without text."""
    pandas = pytest.importorskip("pandas")
    rows = [row("a"), failed("b")]
    pq.write_table(cohort_table(rows, CLASSES), tmp_path / "s.parquet")
    slides = pandas.read_parquet(tmp_path / "s.parquet").set_index("slide_id")
    assert set(slides.columns[slides.dtypes == "object"]) <= {"path", "qc_flags"}
    assert slides["patient_id"].dtype == slides["vendor"].dtype == "category"
    joined = slides["qc_flags"].str.join(";").astype("string").astype("category")
    assert joined["a"] == "blurred;seams"
    assert joined.isna()["b"]
    assert slides.flags.allows_duplicate_labels  # pandas' own attribute, no column


def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes():
    (values,) = cohort_table([row("a", path=Path("a\udcff.svs"))], CLASSES).to_pylist()
    assert values["path"] == "a\\udcff.svs"


@pytest.mark.parametrize("wrong", ["many", [1], 2**70, {"a": 1}])
def test_a_figure_of_a_wrong_type_is_an_error_that_names_slide_and_column(wrong):
    rows = [row("a"), row("b", summary=SUMMARY | {"tiles": wrong})]
    with pytest.raises(StoreError, match=r"slide b: its summary\.json holds tiles"):
        cohort_table(rows, CLASSES)
