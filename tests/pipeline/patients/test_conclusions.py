"""Answers in words, and the limits that are known."""

from dataclasses import replace

import pytest
from cohort_results import failed_row, joined_cohort, planted_clinical, planted_rows, slide_row

from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.audited import Audited
from noctile.pipeline.patients.conclusions import Conclusions, conclude, interval_text, p_text
from noctile.pipeline.patients.question import make_question
from noctile.pipeline.statistics.estimate import Estimate


def concluded(rows, clinical=None, by="subtype", *options, audit=None) -> Conclusions:
    joined = joined_cohort(rows, clinical)
    question = make_question(joined, by, *(options or (None, None)))
    return conclude(analyse(joined, question), audit)


def codes(found: Conclusions) -> set[str]:
    return {limit.code for limit in found.may_not}


@pytest.fixture(scope="module")
def planted() -> Conclusions:
    return concluded(planted_rows(), planted_clinical())


def test_the_answer_says_which_group_has_more(planted):
    assert planted.question == "Do the measures differ between the 2 groups of subtype?"
    assert planted.answers[0].startswith("Tumor fraction tends to be larger in b than in a")
    assert "p < 0.001 after correction for 5 measures" in planted.answers[0]
    assert planted.answers[1].startswith("No difference was found for: Tumor area")


def test_one_group_is_not_compared():
    found = concluded(planted_rows(20), [{"patient_id": "p0000", "subtype": "a"}])
    assert found.question == "How large are the measures? All patients are in one group of subtype."


def test_what_is_always_limited(planted):
    assert {"not_audited", "exploratory", "not_equal", "uneven_slides"} <= codes(planted)
    audit = Audited((), (), ("s1",), 300)
    found = codes(concluded(planted_rows(30), planted_clinical(30), audit=audit))
    assert {"audited", "audit_incomplete"} <= found
    assert "not_audited" not in found
    failed = codes(concluded(planted_rows(30), by=None, audit=replace(audit, problem="few")))
    assert "not_audited" in failed


def test_few_patients_lost_patients_and_other_models_are_limits():
    rows = [slide_row(f"s{k}", k, patient=f"p{k:04}", model=str(k % 2)) for k in range(1, 13)]
    rows += [failed_row(f"f{k}", patient=f"p{k + 12:04}") for k in range(3)]
    found = concluded(rows, planted_clinical(15))
    assert {"small_groups", "many_excluded", "several_models"} <= codes(found)
    assert "uneven_slides" not in codes(found)


def test_slides_without_patients_are_a_limit():
    rows = [slide_row(f"p{k:04}", 1 + k) for k in range(12)]
    found = concluded(rows, planted_clinical(12))
    (limit,) = [limit for limit in found.may_not if limit.code == "patients_not_named"]
    assert "12 slides" in limit.text


def test_an_answer_that_flagged_slides_make_is_a_limit():
    clinical = planted_clinical(40)
    rows = []
    for k in range(40):
        more = k % 2 == 1 and k < 30
        about = {"flags": ["blurred"], "confidence": 0.6} if more else {"confidence": 0.9}
        rows.append(
            slide_row(f"s{k}", 2 + more * 4 + k * 7 % 40 / 100, patient=f"p{k:04}", **about)
        )
    found = concluded(rows, clinical)
    assert found.answers[0].startswith("Tum")
    assert {"flagged_slides", "confidence_differs"} <= codes(found)


def test_a_single_patient_that_decides_is_a_limit():
    shares = [1, 2, 3, 4, 9.5, 5, 6, 7, 8, 9]
    rows = [
        slide_row(f"s{k}", share, patient=f"p{k:04}", foci=1, focus=1)
        for k, share in enumerate(shares)
    ]
    groups = [{"patient_id": f"p{k:04}", "subtype": "ab"[k > 4]} for k in range(10)]
    assert "single_patients" in codes(concluded(rows, groups))


def test_correlation_and_survival_have_answers():
    found = concluded(planted_rows(), planted_clinical(), "age", "os_months", "os_event")
    assert found.question == (
        "Do the measures go up or down with age? Do they tell survival (os_months)?"
    )
    assert found.answers == (
        "No association was found for: Tumor area, Tumor fraction, Tumor foci, Largest focus, "
        "Spread of the tumor fraction.",
        "No association with survival was found.",
    )
    found = concluded(planted_rows(), planted_clinical(), "subtype", "os_months", "os_event")
    assert "Survival goes with subtype: hazard ratio of a against b" in found.answers[2]


def test_survival_that_hangs_on_flagged_slides_is_a_limit():
    """Flagged patients are of group a and die early; the others die in turns."""
    rows, clinical = [], []
    for k in range(60):
        flagged = k < 12
        rows.append(slide_row(f"s{k}", 1 + k % 7, patient=f"p{k:04}", flags=["x"] * flagged))
        group = "a" if flagged or k % 3 == 0 else "b"
        about = {"subtype": group, "os_months": str(k + 1), "os_event": "1"}
        clinical.append({"patient_id": f"p{k:04}", **about})
    found = concluded(rows, clinical, "subtype", "os_months", "os_event")
    assert any(answer.startswith("Survival goes with subtype") for answer in found.answers)
    (limit,) = [limit for limit in found.may_not if limit.code == "flagged_slides"]
    assert "Without 12 flagged slides the answer changes for: " in limit.text
    assert "Survival by subtype" in limit.text


def test_survival_that_a_single_patient_decides_is_a_limit():
    rows = [slide_row(f"s{k}", 1 + k % 7, patient=f"p{k:04}") for k in range(24)]
    early = (0, 1, 3, 6, 7, 10, 12, 15, 18)
    clinical = [
        {
            "patient_id": f"p{k:04}",
            "subtype": "a" if k in early else "b",
            "os_months": str(k + 1),
            "os_event": "1",
        }
        for k in range(24)
    ]
    found = concluded(rows, clinical, "subtype", "os_months", "os_event")
    limits = [limit.text for limit in found.may_not if limit.code == "single_patients"]
    assert any(text.startswith("Survival by subtype: leaving out a single") for text in limits)


def test_a_cohort_that_is_not_compared_is_described():
    found = concluded([slide_row("s")], None, None)
    assert found.answers == ("Nothing is compared. The figures describe 1 patient with 1 slide.",)
    assert "exploratory" not in codes(found)


def test_figures_are_written_for_readers():
    assert [p_text(p) for p in (0.0001, 0.04)] == ["p < 0.001", "p = 0.040"]
    assert interval_text(Estimate(0.5, 0.1, 0.9)) == "0.50 (95 % interval 0.10 to 0.90)"
    assert interval_text(Estimate(0.5)) == "0.50 (no interval)"
