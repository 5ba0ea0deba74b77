"""Columns: their types have names, and fields carry unit and description."""

import pyarrow as pa
import pytest

from noctile.pipeline.columns import (
    FIGURES,
    IDENTITY,
    MEASURES,
    ORIGIN,
    class_columns,
    class_of,
    describe_columns,
    tile_columns,
)

COLUMNS = [*IDENTITY, *FIGURES, *MEASURES, *class_columns("tumor"), *ORIGIN]


@pytest.mark.parametrize("columns", [COLUMNS, tile_columns(["tumor", "other"])])
def test_every_column_has_a_name_of_its_own_a_named_type_and_a_description(columns):
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.type_name and column.description for column in columns)


def test_columns_whose_name_ends_with_a_unit_have_it():
    units = {"mm2": "mm²", "um": "µm", "fraction": "0..1"}
    ends = {column.name.rpartition("_")[2]: column.unit for column in tile_columns([])}
    ends |= {column.name.rpartition("_")[2]: column.unit for column in COLUMNS}
    assert {end: ends[end] for end in units} == units


def test_the_description_of_a_table_has_one_entry_for_each_column_in_its_order():
    schema = pa.schema([column.field for column in COLUMNS])
    (first, *others) = describe_columns(schema.empty_table())["columns"]
    assert first == {
        "name": "slide_id",
        "type": "text",
        "unit": "",
        "description": "name of the slide in this folder",
    }
    assert [entry["name"] for entry in others] == [column.name for column in COLUMNS[1:]]


@pytest.mark.parametrize("name", ["tumor", "class_a_area_mm2", "fat (%)"])
def test_the_class_of_a_column_is_that_of_its_area(name):
    area, share = class_columns(name)
    assert (class_of(area.name), class_of(share.name)) == (name, None)
    assert class_of("tumor_area_mm2") is None
