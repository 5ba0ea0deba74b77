import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewer_client import Review, Row

from noctile.pipeline.errors import UsageError
from noctile.workflows.viewer.reviews import (
    parse_regions,
    parse_review,
    review_document,
    status_of_all,
)

NOTHING = {"type": "FeatureCollection", "features": []}


def encoded(values: object) -> bytes:
    return json.dumps(values).encode()


def test_a_review_is_parsed():
    body = {"status": "look_again", "note": "fold", "version": "7", "more": 1}
    assert parse_review(encoded(body)) == ("look_again", "fold", "7")
    assert parse_review(encoded(body | {"status": ""}))[0] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "good"}, "status must be one of accepted, rejected, look_again"),
        ({"status": None}, "status must be text"),
        ({"note": 5}, "note must be text"),
        ({"note": "a" * 10_001}, "longer than 10000"),
        ({"note": "\ud800"}, "note must be text"),
        ({"version": ["1"]}, "version must be text"),
    ],
)
def test_other_reviews_are_refused(change, message):
    body = {"status": "accepted", "note": "", "version": "1"} | change
    with pytest.raises(UsageError, match=message):
        parse_review(encoded(body))


def test_regions_are_parsed():
    body = {"features": [{"type": "Feature"}], "version": "7"}
    assert parse_regions(encoded(body)) == ([{"type": "Feature"}], "7")


@pytest.mark.parametrize(
    "change",
    [{"features": {}}, {"features": [1]}, {"features": [{}] * 10_001}, {"version": None}],
)
def test_other_regions_are_refused(change):
    with pytest.raises(UsageError):
        parse_regions(encoded({"features": [], "version": "1"} | change))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 9999, b"1" * 9999])
@pytest.mark.parametrize("parse", [parse_review, parse_regions])
def test_what_is_no_json_object_is_refused(parse, body):
    with pytest.raises(UsageError, match="the request is not"):
        parse(body)


@given(st.binary(max_size=80))
def test_random_bytes_are_refused(body):
    for parse in (parse_review, parse_regions):
        with pytest.raises(UsageError):
            parse(body)


def test_a_document_has_all_reviewers():
    review = Review("3", [Row("a", "ada", "accepted", "fine", "2026-11-29T06:00:00Z")], NOTHING)
    row = {"reviewer": "ada", "status": "accepted", "note": "fine", "time": "2026-11-29T06:00:00Z"}
    expected = {"version": "3", "reviews": [row], "regions": NOTHING}
    assert review_document(review) == expected | {"conflict": False}
    assert review_document(review, conflict=True) == expected | {"conflict": True}


def test_the_status_of_a_slide_is_that_of_all_reviewers():
    rows = [
        Row("a", "ada", "accepted", ""),
        Row("a", "bob", "accepted", ""),
        Row("b", "ada", "accepted", ""),
        Row("b", "bob", "rejected", ""),
        Row("c", "ada", "", "a note alone"),
        Row("c", "bob", "rejected", ""),
        Row("d", "ada", "", ""),
    ]
    assert status_of_all(rows) == {"a": "accepted", "b": "disagreement", "c": "rejected"}
