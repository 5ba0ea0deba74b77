"""Patients, their slides and their clinical values; rows without a partner."""

from pathlib import Path

import pytest
from cohort_results import failed_row, slide_row

from noctile.pipeline.errors import UsageError
from noctile.pipeline.patients.clinical import ClinicalRow, ClinicalTable
from noctile.pipeline.patients.join import Joined, join
from noctile.pipeline.patients.slides import cohort_slides


def table(*rows: ClinicalRow, by_slide: bool = False) -> ClinicalTable:
    columns = tuple(dict.fromkeys(name for row in rows for name in row.cells))
    return ClinicalTable(Path("c.csv"), by_slide, "id", columns, rows)


def joined(rows, clinical: ClinicalTable | None = None) -> Joined:
    from noctile.pipeline.cohort import cohort_table, manifest_headers

    found = cohort_table(rows, ("tumor",))
    headers = {"group": "group", **manifest_headers(found.schema)}
    return join(cohort_slides(found.to_pylist(), headers), clinical)


def test_slides_of_a_patient_come_together():
    found = joined([slide_row("b", patient="p"), slide_row("a", patient="p"), failed_row("c")])
    assert [(p.patient_id, p.named, len(p.slides)) for p in found.patients] == [
        ("c", False, 1),
        ("p", True, 2),
    ]


def test_rows_of_patients_are_joined_and_others_named():
    rows = ClinicalRow(2, "", "p", {"subtype": "a"}), ClinicalRow(3, "", "q", {"subtype": "b"})
    found = joined([slide_row("s", patient="p"), slide_row("t", patient="r")], table(*rows))
    assert [(p.patient_id, p.in_clinical, dict(p.values)) for p in found.patients] == [
        ("p", True, {"subtype": ("a",)}),
        ("r", False, {}),
    ]
    assert [row.name for row in found.unmatched_rows] == ["q"]


def test_a_slide_without_a_patient_is_joined_by_its_id():
    found = joined([slide_row("s")], table(ClinicalRow(2, "", "s", {"subtype": "a"})))
    assert found.patients[0].values == {"subtype": ("a",)}
    assert found.unmatched_rows == ()


def test_a_table_of_slides_names_patients_and_lists_the_slides_that_are_asked_for():
    rows = ClinicalRow(2, "s", "p", {"g": "x"}), ClinicalRow(3, "t", "p", {"g": "y"})
    found = joined([slide_row(name) for name in "stu"], table(*rows, by_slide=True))
    assert [(p.patient_id, p.named, dict(p.values)) for p in found.patients] == [
        ("p", True, {"g": ("x", "y")}),
        ("u", False, {}),
    ]
    assert found.patients[1].slides[0].fate == "not_listed"


def test_contradicting_patients_are_refused():
    rows = table(ClinicalRow(2, "s", "q", {}), by_slide=True)
    with pytest.raises(UsageError, match="slide s is of patient 'p' in the results, and of 'q'"):
        joined([slide_row("s", patient="p")], rows)


def test_the_clinical_table_hides_columns_of_the_manifest():
    rows = [slide_row("s", patient="p", group="old", extra=(("grade", "3"),))]
    found = joined(rows, table(ClinicalRow(2, "", "p", {"group": "new"})))
    assert found.patients[0].values == {"group": ("new",), "grade": ("3",)}
    assert found.columns == ("group", "grade")


def test_an_id_of_a_slide_is_no_other_patient():
    found = joined([slide_row("p"), slide_row("s", patient="p")])
    assert [p.patient_id for p in found.patients] == ["p", "p (slide)"]
