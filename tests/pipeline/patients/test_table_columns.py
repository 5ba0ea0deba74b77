"""Columns of the tables of a cohort."""

import pytest

from noctile.pipeline.columns import BOOLEAN, CATEGORY, FLAGS, TEXT, Column
from noctile.pipeline.patients import table_columns

TABLES = {
    name: columns
    for name, columns in vars(table_columns).items()
    if isinstance(columns, tuple) and isinstance(columns[0], Column)
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_have_one_name_a_meaning_and_a_unit_that_fits(name):
    columns = TABLES[name]
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        assert column.description
        assert not (column.unit and column.type in (BOOLEAN, CATEGORY, FLAGS, TEXT))
        assert (column.unit == "mm²") == column.name.endswith("_mm2")
