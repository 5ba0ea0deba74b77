"""Design, points and answers of an audit as text."""

import csv
import json

import pytest

from noctile.workflows.results.audit_rows import (
    AuditAnswer,
    AuditClass,
    AuditDesign,
    AuditPoint,
    AuditSlide,
    agreed,
    design_from_json,
    design_to_json,
    parse_answers,
    parse_points,
    rows_text,
)

DESIGN = AuditDesign(
    points=4,
    by="arm",
    seed=0,
    spacing_um=20.0,
    drawn_at="2026-11-29T06:00:00Z",
    versions={"noctile": "1"},
    classes=(
        AuditClass("tumor", 1, "tumor", (200, 0, 0)),
        AuditClass("other", 21, "tissue", (9,) * 3),
    ),
    left_out={"failed": 2},
    slides=(AuditSlide("a", "k", "p", "x", {"tumor": 1.5, "other": 2.0}, 1.0),),
)
POINT = AuditPoint("p1", "=a", 10.5, 20.125, 5.25, 10.0625, "tumor", "x", 0.1 + 0.2, 4)
ANSWER = AuditAnswer("p1", "@da", "tumor", "2026-11-29T06:00:00Z")


def lines(text):
    return csv.reader(text.splitlines())


def test_what_is_written_is_read():
    assert design_from_json(json.loads(json.dumps(design_to_json(DESIGN)))) == DESIGN
    assert list(parse_points(lines(rows_text(AuditPoint, [POINT])), 9)) == [POINT]
    assert list(parse_answers(lines(rows_text(AuditAnswer, [ANSWER])))) == [ANSWER]


def test_files_from_before_audits_could_be_extended_are_read():
    """They have no batches, and no mark of chosen slides: all took part."""
    values = design_to_json(DESIGN)
    del values["n_slides"], values["slides"][0]["chosen"]
    assert design_from_json(json.loads(json.dumps(values))) == DESIGN
    text = rows_text(AuditPoint, [POINT]).replace(",batch", "").replace(",4", "")
    assert "batch" not in text
    assert list(parse_points(lines(text), 4)) == [POINT]


def test_no_cell_is_a_formula():
    assert "'=a" in rows_text(AuditPoint, [POINT])
    assert "'@da" in rows_text(AuditAnswer, [ANSWER])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "x"),
        ("points", None),
        ("n_slides", "x"),
        ("n_slides", float("inf")),
        ("classes", 3),
        ("slides", [{}]),
        ("versions", []),
        ("spacing_um", float("nan")),
    ],
)
def test_a_design_with_a_wrong_value_is_refused(name, value):
    values = design_to_json(DESIGN)
    with pytest.raises(ValueError, match="no design of an audit"):
        design_from_json(values | {name: value})
    if name == "n_slides":
        return  # designs from before slides could be chosen lack it
    del values[name]
    with pytest.raises(ValueError, match="no design of an audit"):
        design_from_json(values)


@pytest.mark.parametrize("probability", [0, 1.1, "1", True])
def test_a_slide_without_a_probability_is_refused(probability):
    values = json.loads(json.dumps(design_to_json(DESIGN)))
    values["slides"][0]["probability"] = probability
    with pytest.raises(ValueError, match="no design of an audit"):
        design_from_json(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "point_id,reader\n",
        "point_id,reader,answer,answered_at,mine\n",
        "point_id,reader,answer,answered_at\np1,ada\n",
        "point_id,reader,answer,answered_at\np1,ada,tumor,t\np1,ada,other,t\n",
    ],
)
def test_answers_that_would_lose_something_are_refused(text):
    with pytest.raises(ValueError, match=r"columns|cells|two answers"):
        list(parse_answers(lines(text)))


@pytest.mark.parametrize(("before", "after"), [("10.5", "x"), ("10.5", "nan"), ("0.3", "-0.3")])
def test_points_with_wrong_numbers_are_refused(before, after):
    with pytest.raises(ValueError, match=r"position|convert"):
        list(parse_points(lines(rows_text(AuditPoint, [POINT]).replace(before, after, 1)), 4))


@pytest.mark.parametrize(
    ("answers", "one"),
    [
        (["a"], "a"),
        (["a", "b"], "unsure"),
        (["a", "b", "a"], "a"),
        (["a", "unsure", "unsure"], "unsure"),
        (["a", "b", "c"], "unsure"),
    ],
)
def test_the_answer_of_most_readers(answers, one):
    assert agreed(answers) == one
