"""Table of a comparison."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.commands.diff_table import common_classes, diff_table, write_diff_table


def row(slide_id: str, change: float | None = None, **values) -> dict:
    status = "only_a" if change is None else "compared"
    figures = {} if change is None else {"tumor_area_difference_mm2": change}
    return {"slide_id": slide_id, "status": status, **figures, **values}


ROWS = [
    row("small", 0.1, classes={"stroma": {"dice": 0.5, "area_a_mm2": 1.0}}),
    row("gone"),
    row("large", -0.5, message="", classes={"fat": {"dice": None}}),
    row("none", 0.0, message="=cmd|' /C calc'!A0"),
]


def test_the_largest_change_comes_first_and_no_slide_is_lost():
    table = diff_table(ROWS)
    assert table["slide_id"].to_pylist() == ["large", "small", "none", "gone"]
    assert table["class_stroma_dice"].to_pylist() == [None, 0.5, None, None]
    assert table["message"].to_pylist()[0] is None
    assert common_classes(ROWS) == ["stroma", "fat"]


def test_files_are_typed_with_units(tmp_path):
    write_diff_table(diff_table(ROWS), tmp_path)
    stored = pq.read_table(tmp_path / "diff.parquet")
    field = stored.schema.field("tumor_area_difference_mm2")
    assert (str(field.type), field.metadata[b"unit"].decode()) == ("double", "mm²")
    columns = json.loads((tmp_path / "diff_columns.json").read_text())["columns"]
    assert [column["name"] for column in columns] == stored.column_names
    with (tmp_path / "diff.csv").open(newline="") as file:
        read = {line["slide_id"]: line for line in csv.DictReader(file)}
    assert read["none"]["message"] == "'=cmd|' /C calc'!A0"
    assert read["gone"]["tumor_area_difference_mm2"] == ""


def test_a_figure_of_a_wrong_type_is_damage():
    with pytest.raises(StoreError, match="damaged"):
        diff_table([row("x", 0.1, tumor_dice="high")])
