"""Regions that were taken from another folder, by the history of reviews."""

import json

import pytest

from noctile.workflows.results.review_history import taken_regions

REGION = {"id": "r1", "geometry": {"type": "Polygon", "coordinates": []}}


def line(**values: object) -> str:
    return json.dumps({"event": "taken", "slide_id": "a", "features": [REGION]} | values) + "\n"


def test_only_regions_that_were_taken_count(tmp_path):
    path, other = tmp_path / "history.jsonl", REGION | {"id": "r2"}
    row = {"event": "taken", "slide_id": "a", "status": "accepted"}
    path.write_text(
        line()
        + line(event="regions", features=[REGION | {"id": "own", "note": '"taken"'}])
        + line(slide_id="b", features=[other])
        + json.dumps(row)
        + "\n"
        + line(features=[other])
    )
    assert taken_regions(path) == {"a": [REGION, other], "b": [other]}


@pytest.mark.parametrize(
    "damage",
    [
        '{"event": "taken", "slide_id": "a", "fea\n',
        "[" * 200 + '"taken"\n',
        '["taken"]\n',
        line(features=[1, {}, None]),
        line(features=7),
        line(slide_id=[1]),
        line(event=["taken"]),
    ],
)
def test_damaged_lines_are_passed_over(tmp_path, damage):
    path = tmp_path / "history.jsonl"
    path.write_text(damage + line())
    assert taken_regions(path) == {"a": [REGION]}


def test_a_history_that_is_missing_a_link_or_no_text_tells_nothing(tmp_path):
    path = tmp_path / "history.jsonl"
    assert taken_regions(path) == {}
    path.write_bytes(b"\xff\xfe" + line().encode())
    assert taken_regions(path) in ({}, {"a": [REGION]})
    (tmp_path / "link.jsonl").symlink_to(path)
    assert taken_regions(tmp_path / "link.jsonl") == {}
