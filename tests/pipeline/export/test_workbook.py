import datetime
import time
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.columns import describe_columns
from noctile.pipeline.errors import UsageError
from noctile.pipeline.export import workbook
from noctile.pipeline.export.workbook import write_workbook

ROWS = [
    SlideRow(
        "a",
        Path("a.svs"),
        "done",
        patient_id="007",
        summary={"tumor_area_mm2": 1.25, "tumor_foci": 3, "qc_flags": ["blurred", "seams"]},
        extra=(("day", "2026-11-29"), ("age", "61"), ("consent", "true")),
    ),
    SlideRow(
        "b",
        Path("=cmd.svs"),
        "failed",
        reason="unreadable",
        message="=HYPERLINK(1)",
        extra=(("day", "2026-11-30"), ("age", "58"), ("consent", "false")),
    ),
]


def written(table: pa.Table, path: Path) -> openpyxl.Workbook:
    write_workbook(table, describe_columns(table)["columns"], path)
    return openpyxl.load_workbook(path)


def cells(book: openpyxl.Workbook, name: str, sheet: str = "slides") -> list:
    """Cells of a column, header and unit included."""
    (column,) = [c for c in book[sheet].iter_cols() if c[0].value == name]
    return list(column)


def text_table(texts: list[str]) -> pa.Table:
    field = pa.field("text", pa.string(), metadata={"unit": "", "description": "texts"})
    return pa.table([texts], schema=pa.schema([field]))


def test_names_and_units_are_frozen_above_the_rows(tmp_path):
    book = written(cohort_table(ROWS, ["tumor"]), tmp_path / "t.xlsx")
    assert book.sheetnames == ["slides", "columns"]
    assert book["slides"].freeze_panes == "B3"
    assert [cell.value for cell in cells(book, "tumor_area_mm2")] == [
        "tumor_area_mm2",
        "mm²",
        1.25,
        None,
    ]
    assert book["slides"].auto_filter.ref.startswith("A2:")


def test_each_column_is_explained(tmp_path):
    table = cohort_table(ROWS, ["tumor"])
    book = written(table, tmp_path / "t.xlsx")
    (header, *rows) = book["columns"].iter_rows(values_only=True)
    assert header == ("name", "unit", "meaning")
    assert [row[0] for row in rows] == table.column_names
    meanings = {name: (unit, meaning) for name, unit, meaning in rows}
    assert meanings["tumor_area_mm2"] == ("mm²", "area of all classes with the role tumor")


def test_values_keep_their_types(tmp_path):
    book = written(cohort_table(ROWS, ["tumor"]), tmp_path / "t.xlsx")
    assert cells(book, "tumor_foci")[2].value == 3
    assert cells(book, "patient_id")[2].value == "007"
    assert cells(book, "qc_flags")[2].value == "blurred;seams"
    assert cells(book, "age")[2].value == 61
    assert cells(book, "consent")[2].value is True
    day = cells(book, "day")[2]
    assert day.is_date
    assert day.value.date() == datetime.date(2026, 11, 29)


def test_pandas_reads_the_table_under_its_units(tmp_path):
    written(cohort_table(ROWS, ["tumor"]), tmp_path / "t.xlsx")
    frame = pd.read_excel(tmp_path / "t.xlsx", skiprows=[1])
    assert list(frame["slide_id"]) == ["a", "b"]
    assert frame["tumor_area_mm2"].iloc[0] == 1.25
    assert pd.isna(frame["tumor_area_mm2"].iloc[1])


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@A1", "=", "#N/A", "\t=1", "＝1"])
def test_text_never_becomes_a_formula_or_an_error(tmp_path, text):
    book = written(text_table([text]), tmp_path / "t.xlsx")
    cell = book["slides"]["A3"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", True)


def test_a_name_of_a_column_never_becomes_a_formula(tmp_path):
    field = pa.field("=1+1", pa.string(), metadata={"unit": "=2", "description": "=3"})
    book = written(pa.table([["a"]], schema=pa.schema([field])), tmp_path / "t.xlsx")
    found = [book["slides"]["A1"], book["slides"]["A2"], *book["columns"][2]]
    assert {cell.data_type for cell in found} == {"s"}


def test_characters_that_excel_refuses_are_escaped(tmp_path):
    texts = ["a\x01b", "a\x1b[31m", "\ufffe", "ü\n<&>", "\U0001f600"]
    book = written(text_table(texts), tmp_path / "t.xlsx")
    found = [cell.value for cell in book["slides"]["A"][2:]]
    assert found == ["a\\x01b", "a\\x1b[31m", "\\ufffe", "ü\n<&>", "\U0001f600"]


def test_values_that_excel_cannot_hold_become_text_or_empty(tmp_path):
    about = {"unit": "", "description": ""}
    names = [("id", pa.int64()), ("x", pa.float64()), ("day", pa.date32()), ("long", pa.string())]
    schema = pa.schema([pa.field(name, kind, metadata=about) for name, kind in names])
    values = [[1234567890123456], [float("inf")], [datetime.date(1850, 1, 2)], ["x" * 40000]]
    book = written(pa.table(values, schema=schema), tmp_path / "t.xlsx")
    number, infinite, day, long = (cell.value for cell in book["slides"][3])
    assert (number, infinite, day) == ("1234567890123456", None, "1850-01-02")
    assert len(long) == 32767
    assert long.endswith("...")


def test_the_same_table_makes_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    table = cohort_table(ROWS, ["tumor"])
    written(table, tmp_path / "a.xlsx")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    written(table, tmp_path / "b.xlsx")
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    about = openpyxl.load_workbook(tmp_path / "a.xlsx").properties
    assert (about.created.year, about.modified.year) == (1980, 1980)


def test_a_table_without_rows_is_written(tmp_path):
    book = written(cohort_table([], []), tmp_path / "t.xlsx")
    assert book["slides"].max_row == 2


def test_more_rows_than_excel_reads_are_refused(tmp_path, monkeypatch):
    table = text_table(["a"] * 9)
    monkeypatch.setattr(workbook, "MAX_ROWS", 10)
    with pytest.raises(UsageError, match=r"Excel reads 10 rows .* the table has 9 rows.*parquet"):
        write_workbook(table, describe_columns(table)["columns"], tmp_path / "t.xlsx")
    assert not (tmp_path / "t.xlsx").exists()
