"""Questions: the column, its kind, survival, cuts, refusals."""

import math
from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.patients.clinical import ClinicalTable
from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.question import (
    Cut,
    by_value,
    make_question,
    number_of,
    parse_cut,
    sorted_groups,
    survival_of,
)


def cohort(clinical: bool = True, **columns: list[str]) -> Joined:
    """One patient for each cell; several cells are separated by a bar."""
    n = len(next(iter(columns.values())))
    values = [
        {name: tuple(cells[k].split("|")) for name, cells in columns.items() if cells[k]}
        for k in range(n)
    ]
    patients = tuple(Patient(f"p{k}", (), True, True, v) for k, v in enumerate(values))
    table = ClinicalTable(Path("c.csv"), False, "patient_id", tuple(columns), ())
    return Joined(patients, tuple(columns), table if clinical else None, ())


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["a", "b", "a"], "groups"),
        (["1", "2", "3", "2"], "groups"),
        ([str(k) for k in range(9)], "number"),
        (["1.5", "2.25"], "number"),
        (["1,5", "2,25"], "number"),
        (["true", "false"], "groups"),
    ],
)
def test_the_kind_follows_from_the_cells(cells, kind):
    assert make_question(cohort(x=cells), "x", None, None).kind == kind


def test_the_only_column_is_taken():
    assert make_question(cohort(subtype=["a"]), None, None, None).by == "subtype"
    assert make_question(cohort(clinical=False, group=["a"]), None, None, None).by == "group"
    assert make_question(cohort(clinical=False, other=["a"]), None, None, None).kind == "none"
    survival = make_question(cohort(t=["1"], e=["1"]), None, "t", "e")
    assert (survival.by, survival.kind, survival.survival) == ("", "none", True)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": ["x"], "b": ["y"]}, (None, None, None), "a, b. Name one with --by"),
        ({"subtype": ["x"]}, ("subtyp", None, None), "did you mean 'subtype'"),
        ({"a": ["x"]}, ("a", "a", None), "belong together"),
        ({"a": [str(k) + "x" for k in range(21)]}, ("a", None, None), "21 different texts"),
        ({"a": ["2026-11-29"]}, ("a", None, None), "holds dates"),
        ({"a": [""]}, ("a", None, None), "no patient with slides has a value"),
        ({"t": ["soon"], "e": ["1"]}, (None, "t", "e"), "--time 't' must hold numbers"),
        ({"t": ["1"], "e": ["dead"]}, (None, "t", "e"), "found dead"),
    ],
)
def test_wrong_questions_are_refused(columns, options, message):
    with pytest.raises(UsageError, match=message):
        make_question(cohort(**columns), *options)


def test_cuts_are_parsed_and_need_survival():
    assert parse_cut("tumor_fraction_of_tissue=0.5") == Cut("tumor_fraction_of_tissue", 0.5)
    for text in ("tumor_fraction=0.5", "tumor_area_mm2", "tumor_area_mm2=x", "tumor_area_mm2=nan"):
        with pytest.raises(UsageError, match="--cut"):
            parse_cut(text)
    with pytest.raises(UsageError, match="--cut needs --time"):
        make_question(cohort(a=["x"]), "a", None, None, [Cut("tumor_area_mm2", 1)])


def test_survival_of_a_patient():
    found = cohort(t=["5", "-1", "3|4", ""], e=["1:DECEASED", "0", "1", "true"])
    question = make_question(found, None, "t", "e")
    pairs = [survival_of(question, patient) for patient in found.patients]
    assert pairs[0] == (5, 1)
    assert [math.isnan(t) for t, _ in pairs] == [False, True, True, True]
    assert [e for _, e in pairs] == [1, 0, 1, 1]


def test_values_that_disagree_are_none():
    found = cohort(g=["a", "a|b"])
    question = make_question(found, "g", None, None)
    assert [by_value(question, patient) for patient in found.patients] == ["a", ""]
    assert number_of("1,5") == 1.5
    assert math.isnan(number_of(""))


def test_groups_are_sorted_by_number_then_by_text():
    assert sorted_groups(["b", "10", "9", "A"]) == ["9", "10", "A", "b"]
