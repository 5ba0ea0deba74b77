"""Matching of the slides of two folders of results."""

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.diff_match import Known, match_slides, read_pairs


def known(*slides: tuple[str, str], sha256: str = "") -> dict[str, Known]:
    return {i: Known(i, content, sha256, True, "done", "") for i, content in slides}


def matched(a, b, named=()) -> tuple[list[tuple[str, str, str]], list[str], list[str]]:
    found = match_slides(a, b, named)
    pairs = [(p.a.slide_id, p.b.slide_id, p.matched_by) for p in found.pairs]
    return pairs, [k.slide_id for k in found.only_a], [k.slide_id for k in found.only_b]


def test_content_comes_before_the_id():
    a, b = known(("x", "1"), ("y", "2")), known(("x", "2"), ("z", "1"))
    assert matched(a, b) == ([("x", "z", "content"), ("y", "x", "content")], [], [])


def test_other_scans_of_a_slide_are_matched_by_id():
    a, b = known(("x", "1"), ("only", "3")), known(("x", "2"), ("new", "4"))
    assert matched(a, b) == ([("x", "x", "slide_id")], ["only"], ["new"])


def test_a_manifest_comes_first():
    a, b = known(("x", "1"), ("y", "2")), known(("x", "1"), ("y", "2"))
    assert matched(a, b, [("x", "y")])[0] == [("x", "y", "manifest")]
    assert matched(a, b, [("x", "y")])[1:] == (["y"], ["x"])


def test_the_same_content_twice_is_matched_by_id_and_then_in_order():
    a, b = known(("c", "1"), ("x", "1")), known(("a", "1"), ("x", "1"), ("y", "1"))
    assert matched(a, b) == ([("c", "a", "content"), ("x", "x", "content")], [], ["y"])


def test_slides_without_a_known_content_are_matched_by_id_alone():
    a, b = known(("x", ""), ("y", "")), known(("x", ""), ("z", ""))
    assert matched(a, b) == ([("x", "x", "slide_id")], ["y"], ["z"])


def test_full_hashes_decide_where_both_have_one():
    a, b = known(("x", "1"), sha256="aa"), known(("y", "1"), sha256="bb")
    assert matched(a, b) == ([], ["x"], ["y"])
    assert matched(a, known(("y", "1")))[0] == [("x", "y", "content")]


def test_a_manifest_is_read(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("note,b,a\nscanner 2,y,x\n,,\n", encoding="utf-8-sig")
    assert read_pairs(path, known(("x", "1")), known(("y", "2"))) == [("x", "y")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n", "no columns a and b"),
        ("", "no columns a and b"),
        ("a,b\nx,q\n", "line 2: slide q of b is not in"),
        ("a,b\nx,y\nx,y\n", "line 3: slide x of a is named twice"),
        ("a,b\nx\n", "line 2: slide  of b is not in"),
        ('a,b\n"x\n', "cannot be read"),
        ("a,b\n\x1b[2J,y\n", r"slide \x1b[2J of a"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, text, message):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_pairs(path, known(("x", "1")), known(("y", "2")))
    assert message in str(error.value)


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_pairs(tmp_path / "none.csv", {}, {})
