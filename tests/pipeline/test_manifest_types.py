"""Types of a manifest's columns, from the text of their cells."""

from datetime import date

import pytest

from noctile.pipeline.columns import BOOLEAN, CATEGORY, DATE, INTEGER, NUMBER
from noctile.pipeline.manifest_types import column_type, parse_cell


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "+3", "", "0"], INTEGER),
        (["9223372036854775807"], INTEGER),
        (["1", "2.5", ".5", "1.5e3", "2e-4"], NUMBER),
        (["0,25", "1,5", "3"], NUMBER),
        (["0,250"], NUMBER),
        (["1,234", "5,6"], NUMBER),
        (["true", "False", "TRUE", ""], BOOLEAN),
        (["2026-11-29", "1999-01-01"], DATE),
        (["", ""], CATEGORY),
        ([], CATEGORY),
    ],
)
def test_a_column_whose_cells_agree_has_their_type(cells, kind):
    assert column_type("value", cells) == kind


@pytest.mark.parametrize(
    "cells",
    [
        ["007"],
        ["00.5"],
        ["9223372036854775808"],
        ["9007199254740993", "0.5"],
        ["1" * 5000],
        ["12E3"],
        ["1e999.5"],
        ["1.5e999"],
        ["1,234"],
        ["1,5", "1.5"],
        ["1.2.3"],
        ["1_000"],
        ["\u0661"],
        ["0x1"],
        ["nan"],
        ["inf"],
        ["NA", "1"],
        ["yes"],
        ["true", "1"],
        ["2026-02-30"],
        ["29.11.2026"],
        ["2026-11-29", "5"],
        ["II"],
    ],
)
def test_every_other_column_is_text(cells):
    assert column_type("value", cells) == CATEGORY


@pytest.mark.parametrize("header", ["id", "ID", "case_id", "Specimen ID", "block-Id", "caseId"])
def test_ids_are_text(header):
    assert column_type(header, ["1", "2"]) == CATEGORY


@pytest.mark.parametrize("header", ["fluid", "grid", "LIQUID", "idle"])
def test_words_that_only_end_like_ids_are_no_ids(header):
    assert column_type(header, ["1", "2"]) == INTEGER


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        ("-2", INTEGER, -2),
        ("0,25", NUMBER, 0.25),
        ("FALSE", BOOLEAN, False),
        ("2026-11-29", DATE, date(2026, 11, 29)),
        ("II", CATEGORY, "II"),
        ("", INTEGER, None),
        ("", CATEGORY, None),
    ],
)
def test_a_cell_becomes_a_value_of_its_type(cell, kind, value):
    assert parse_cell(cell, kind) == value
