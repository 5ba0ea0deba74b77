"""Clinical tables: ids, aliases, refusals."""

from pathlib import Path

import openpyxl
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.patients.clinical import ClinicalTable, read_clinical


def read(tmp_path: Path, text: str, patient: str | None = None) -> ClinicalTable:
    path = tmp_path / "clinical.csv"
    path.write_text(text, encoding="utf-8")
    return read_clinical(path, patient)


def test_two_columns_are_enough(tmp_path):
    found = read(tmp_path, "slide_id,subtype\ns1,a\ns2,\n")
    assert found.by_slide
    assert found.columns == ("subtype",)
    assert [(r.number, r.slide_id, r.cells) for r in found.rows] == [
        (2, "s1", {"subtype": "a"}),
        (3, "s2", {}),
    ]
    found = read(tmp_path, "Patient ID;subtype\np1;a\n")
    assert not found.by_slide
    assert found.rows[0].patient_id == "p1"


def test_slides_may_name_their_patients(tmp_path):
    found = read(tmp_path, "slide,case,grade\ns1,p1,2\n", "case")
    assert (found.rows[0].slide_id, found.rows[0].patient_id) == ("s1", "p1")
    assert found.columns == ("grade",)


def test_a_workbook_is_read_too(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["patient", "age"])
    book.active.append(["p1", 61])
    book.save(tmp_path / "c.xlsx")
    assert read_clinical(tmp_path / "c.xlsx").rows[0].cells == {"age": "61"}


@pytest.mark.parametrize(
    ("text", "patient", "message"),
    [
        ("subject,a\n1,2\n", None, "--patient"),
        ("subject,a\n1,2\n", "subjct", "did you mean 'subject'"),
        ("slide_id,a\n", None, "no rows"),
        ("slide_id,a\n,2\n", None, "row 2 has no id"),
        ("slide_id,a\ns,2\ns,3\n", None, "row 3: slide 's' stands in row 2 too"),
        ("slide_id,a\ns,2,3\n", None, "row 2: 3 cells"),
        ("", None, "it is empty"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, text, patient, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text, patient)
