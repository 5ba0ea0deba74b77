"""Rows of reviews as text, and versions."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.review import STATUSES
from noctile.workflows.results.review_rows import (
    Review,
    SlideReview,
    collection,
    parse_rows,
    rows_text,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=20)


def parsed(text):
    return list(parse_rows(csv.reader(io.StringIO(text, newline=""), strict=True)))


@given(
    st.lists(
        st.builds(Review, st.sampled_from("abc"), TEXT, st.sampled_from(STATUSES), TEXT, TEXT),
        max_size=5,
        unique_by=lambda row: (row.slide_id, row.reviewer),
    )
)
def test_rows_are_read_as_they_were_written(rows):
    assert sorted(parsed(rows_text(rows)), key=str) == sorted(rows, key=str)


def test_no_note_is_a_formula_for_a_spreadsheet():
    assert "'=1+1" in rows_text([Review("a", "ada", "", "=1+1")])


def test_line_breaks_of_all_kinds_are_read_again():
    text = rows_text([Review("a", "ada", "", "one\rtwo\r\nthree\0")])
    assert [row.note for row in parsed(text)] == ["one\ntwo\nthree"]


def test_no_column_that_a_person_has_added_is_a_formula():
    rows = parsed("slide_id,reviewer,status,=1+1\na,ada,,@x\n")
    text = rows_text(rows)
    assert "'=1+1" in text
    assert "'@x" in text
    assert parsed(text) == rows


def test_columns_that_a_person_has_added_stay():
    rows = parsed("status,slide_id,reviewer,ward\naccepted,a,ada,7\n,b,ada,\n")
    assert rows[0].more == (("ward", "7"),)
    again = parsed(rows_text([*rows, Review("c", "ada")]))
    assert [dict(row.more) for row in again] == [{"ward": "7"}, {"ward": ""}, {"ward": ""}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no columns"),
        ("slide_id,status\na,accepted\n", "no columns"),
        ("slide_id,reviewer,status\na,ada,good\n", "line 2: 'good' is none of accepted, rej"),
        ("slide_id,reviewer,status,status\n", "two columns of one name"),
        ("slide_id,reviewer,status\na,ada,,x\n", "line 2 has more cells than the header"),
        ("slide_id,reviewer,status\n,ada,accepted\n", "line 2 has no slide_id"),
        ("slide_id,reviewer,status\na,b,\n\na,b,accepted\n", "line 4 is a second row for 'a' by"),
        ("slide_id,reviewer,status\n" + "\n" * 200_001, "more than 200000 rows"),
    ],
)
def test_other_tables_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parsed(text)


def test_the_version_has_a_part_for_each_reviewer():
    ada, bob = Review("a", "ada", "accepted"), Review("a", "bob", "rejected")
    region = {"properties": {"metadata": {"reviewer": "bob"}}}
    one, both = SlideReview((ada,)), SlideReview((ada, bob), collection([region]))
    assert one.part("ada") == both.part("ada") != both.part("bob")
    assert one.part("bob") == "" != one.part("ada")
    assert one.version != both.version
    assert both.version != SlideReview((ada, bob)).version
    assert SlideReview().version == ""
