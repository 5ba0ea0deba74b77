"""Cells of the manifest, read back from tables of today and of earlier versions."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.errors import StoreError
from noctile.pipeline.manifest_cells import manifest_cells

EXTRA = (("age", "61"), ("dose", "0.50"), ("note", "=1+1"), ("status", "relapse"), ("old", ""))
ROWS = [
    SlideRow("a", Path("a.svs"), "done", patient_id="p1", group="g", extra=EXTRA),
    SlideRow("=b", Path("b.svs"), "skipped", "stopped", "power"),
]
EARLIER = {
    "slide_id": ["a", "b"],
    "path": ["a.svs", "b.svs"],
    "patient_id": ["p1", None],
    "group": [None, "g"],
    "status": ["done", "failed"],
    "reason": ["", "unopenable: is empty"],
    "tissue_area_mm2": [1.0, None],
    "class_tumor_area_mm2": [0.5, None],
    "class_tumor_fraction_of_tissue": [0.5, None],
    "flags": ["blurred", ""],
    "versions": ["{}", None],
    "manifest_status": ["relapse", ""],
    "run": ["second", "third"],
}


def test_cells_of_a_csv_file_are_those_of_the_manifest(tmp_path):
    write_csv(cohort_table(ROWS, ["tumor"], typed=False), tmp_path / "slides.csv")
    assert manifest_cells(tmp_path / "slides.csv") == {
        "a": {
            "patient_id": "p1",
            "group": "g",
            "age": "61",
            "dose": "0.50",
            "note": "=1+1",
            "status": "relapse",
        },
        "=b": {},
    }


def test_cells_of_a_parquet_file_are_the_text_of_its_values(tmp_path):
    extra = (("alive", "TRUE"), ("seen", "2026-11-29"), ("dose", "0.50"), ("age", "61"))
    rows = [SlideRow("a", Path("a"), "done", extra=extra)]
    pq.write_table(cohort_table(rows, ["tumor"]), tmp_path / "slides.parquet")
    assert manifest_cells(tmp_path / "slides.parquet") == {
        "a": {"alive": "true", "seen": "2026-11-29", "dose": "0.5", "age": "61"}
    }


@pytest.mark.parametrize("name", ["slides.csv", "slides.parquet"])
def test_tables_of_earlier_versions_are_read(tmp_path, name):
    table = pa.table(EARLIER)
    (write_csv if name.endswith("csv") else pq.write_table)(table, tmp_path / name)
    assert manifest_cells(tmp_path / name) == {
        "a": {"patient_id": "p1", "status": "relapse", "run": "second"},
        "b": {"group": "g", "run": "third"},
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("slides.csv", b"\xff\xfe"),
        ("slides.csv", b""),
        ("slides.csv", b"path,group\na,b\n"),
        ("slides.csv", b"slide_id,group\na\n"),
        ("slides.csv", b'slide_id,group\na,"b\n'),
        ("slides.csv", b"slide_id,group\na,b\na,c\n"),
        ("slides.csv", b"slide_id,group\n,c\n"),
        ("slides.csv", b"slide_id,group\na," + b"x" * 200_000 + b"\n"),
        ("slides.parquet", b""),
        ("slides.parquet", b"PAR1" + b"\0" * 100 + b"PAR1"),
    ],
)
def test_a_damaged_table_is_one_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        manifest_cells(tmp_path / name)


def test_a_truncated_parquet_file_without_ids_or_a_missing_file_is_an_error(tmp_path):
    path = tmp_path / "slides.parquet"
    with pytest.raises(StoreError, match="cannot be read"):
        manifest_cells(path)
    pq.write_table(pa.table({"group": ["a"]}), path)
    with pytest.raises(StoreError, match="cannot be read"):
        manifest_cells(path)
    pq.write_table(pa.table(EARLIER), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match="cannot be read"):
        manifest_cells(path)
