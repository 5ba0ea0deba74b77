"""Flow of slides and patients: every slide and row is counted once, and named."""

from pathlib import Path

from cohort_results import failed_row, slide_row

from noctile.pipeline.cohort import cohort_table, manifest_headers
from noctile.pipeline.patients.clinical import ClinicalRow, ClinicalTable
from noctile.pipeline.patients.flow import Count, counted, exclusions, included, make_flow
from noctile.pipeline.patients.join import Joined, join
from noctile.pipeline.patients.question import Question, make_question
from noctile.pipeline.patients.slides import cohort_slides


def asked() -> tuple[Joined, Question]:
    rows = [
        slide_row("a1", patient="a"),
        slide_row("a2", patient="a", flags=["blurred"]),
        failed_row("a3", "unreadable", "a"),
        slide_row("b1", patient="b"),
        slide_row("c1", patient="c"),
        slide_row("d1", patient="d"),
        failed_row("e1", "mpp_missing", "e"),
        failed_row("e2", "unreadable", "e"),
        slide_row("f1", patient="f", review="rejected"),
        slide_row("g1"),
    ]
    groups = {"a": "x", "b": "y", "c": "", "d": "x", "e": "x", "z": "x"}
    clinical = [
        ClinicalRow(k, "", name, {"g": group} if group else {})
        for k, (name, group) in enumerate(groups.items(), start=2)
    ]
    clinical.append(ClinicalRow(9, "", "d", {"g": "y"}))
    found = cohort_table(rows, ("tumor",))
    slides = cohort_slides(found.to_pylist(), manifest_headers(found.schema))
    table = ClinicalTable(Path("c.csv"), False, "patient_id", ("g",), tuple(clinical))
    joined = join(slides, table)
    return joined, make_question(joined, "g", None, None)


def test_every_step_is_counted():
    flow = make_flow(*asked())
    assert flow.submitted == Count(10, 7)
    assert flow.not_done == (("unreadable", 2), ("mpp_missing", 1))
    assert flow.rejected == 1
    assert flow.with_result == Count(6, 5)
    assert flow.flagged == Count(1, 1)
    assert dict(flow.excluded) == {
        "no_clinical_row": Count(1, 1),
        "no_value": Count(1, 1),
        "values_disagree": Count(1, 1),
    }
    assert flow.analysed == Count(3, 2)
    assert flow.groups == (("x", Count(2, 1)), ("y", Count(1, 1)))
    assert (flow.unmatched_rows, flow.own_patients) == (1, 1)


def test_slides_and_patients_add_up():
    flow = make_flow(*asked())
    lost = sum(n for _, n in flow.not_done) + flow.rejected + flow.not_listed
    assert flow.submitted.slides == flow.with_result.slides + lost
    excluded = [count for _, count in flow.excluded]
    assert flow.with_result.slides == flow.analysed.slides + sum(c.slides for c in excluded)
    assert flow.with_result.patients == flow.analysed.patients + sum(c.patients for c in excluded)


def test_every_exclusion_is_named():
    found = {(row.level, row.name): (row.reason, row.message) for row in exclusions(*asked())}
    assert found["slide", "a3"] == ("unreadable", "tile 3 is cut short")
    assert found["slide", "f1"][0] == "rejected"
    assert found["patient", "c"] == ("no_value", "no value in the column: g")
    assert found["patient", "d"][1].endswith("g x / y")
    assert found["patient", "e"][0] == "no_analysed_slide"
    assert found["patient", "g1"][0] == "no_clinical_row"
    assert found["clinical_row", "z"][0] == "no_slide"
    assert "row 7" in found["clinical_row", "z"][1]
    assert [patient.patient_id for patient in included(*asked())] == ["a", "b"]


def test_a_number_has_its_word():
    assert [counted(n, "slide") for n in (0, 1, 2000)] == ["0 slides", "1 slide", "2,000 slides"]
