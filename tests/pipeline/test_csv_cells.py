"""Escaped cells: safe for spreadsheets, and restored without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.csv_cells import escape_cell, unescape_cell

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", " =1", "\t=1", "\uff1d1", "-"]
PLAIN = ["", "a", "a=1", "-5", "+1.5e3", ".5", "'a", "it's", "2026-11-28"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay_as_they_are(text: str) -> None:
    assert escape_cell(text) == text
    assert unescape_cell(text) == text


def test_formulas_behind_apostrophes_get_one_more() -> None:
    assert escape_cell("''=1") == "'''=1"


@given(st.text() | st.builds("".join, st.lists(st.sampled_from("'=+-@ \t1a"))))
def test_every_text_is_restored(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text
