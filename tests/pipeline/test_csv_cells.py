"""Escaped cells: safe for spreadsheets, and restored without loss."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline import csv_cells
from noctile.pipeline.csv_cells import escape_cell, read_csv, unescape_cell

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


def test_lines_of_a_csv_file_are_read_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n"x\n,y",\'=1\r\n\r\n')
    assert list(read_csv(tmp_path / "t.csv", 100)) == [["a", "b"], ["x\n,y", "'=1"], []]


def test_a_csv_file_beyond_a_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(OSError, match="more than 7 bytes"):
        list(read_csv(tmp_path / "t.csv", 7))
    monkeypatch.setattr(csv_cells, "MAX_CELLS", 3)
    with pytest.raises(ValueError, match="more than 3 cells"):
        list(read_csv(tmp_path / "t.csv", 8))


@pytest.mark.parametrize("content", [b"\xff\xfe", b'a,"b', b"x" * 200_000])
def test_what_is_no_csv_file_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"CSV|utf-8"):
        list(read_csv(tmp_path / "t.csv", 2**20))
