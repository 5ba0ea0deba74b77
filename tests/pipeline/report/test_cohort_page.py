"""Page of a cohort: content, escapes, no script, no other file."""

import re

import pytest
from cohort_results import failed_row, joined_cohort, planted_clinical, planted_rows, slide_row

from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.conclusions import conclude
from noctile.pipeline.patients.methods import Item
from noctile.pipeline.patients.question import make_question
from noctile.pipeline.report.cohort_page import CohortReport, cohort_page
from noctile.pipeline.report.cohort_plots import Picture
from noctile.pipeline.report.flow_chart import flow_svg

HOSTILE = '</td><script>alert("x")</script><img src=x onerror=alert(1)>'


def page_of(rows, clinical, by: str | None = "subtype", *survival: str) -> str:
    joined = joined_cohort(rows, clinical)
    analysis = analyse(joined, make_question(joined, by, *(survival or (None, None))))
    picture = Picture("tumor_area_mm2", HOSTILE, HOSTILE, b"png", b"svg")
    report = CohortReport(
        HOSTILE,
        analysis,
        conclude(analysis),
        flow_svg(analysis.flow, analysis.question.by),
        [picture],
        [HOSTILE],
        [Item("CLAIM 1", HOSTILE, HOSTILE)],
        HOSTILE,
        {measure.name: "no slide has it" for measure in analysis.missing},
    )
    return cohort_page(report)


@pytest.fixture(scope="module")
def page() -> str:
    clinical = planted_clinical(40)
    for row in clinical:
        row["subtype"] = HOSTILE if row["subtype"] == "a" else "b"
    hostile = slide_row(HOSTILE, patient=HOSTILE, flags=[HOSTILE])
    return page_of([*planted_rows(40), failed_row("f", HOSTILE), hostile], clinical)


def test_names_of_users_are_escaped(page):
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_the_page_needs_no_other_file(page):
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64)', page) == []


def test_the_page_has_all_parts(page):
    headings = re.findall(r"<h2>([^<]+)</h2>", page)
    for heading in (
        "Answer",
        "Flow of slides and patients",
        "Tests",
        "Plots",
        "Slides that can change the conclusion",
        "Not counted, by name",
        "Methods",
    ):
        assert heading in headings
    assert 'data-code="not_audited"' in page
    assert "Necrosis fraction: no slide has it" in page


def test_survival_and_numbers_have_their_tables():
    page = page_of(planted_rows(40), planted_clinical(40), "age", "os_months", "os_event")
    assert "Spearman" in page
    assert "<h2>Survival</h2>" in page
    assert "n (events) without flagged" in page
    assert "median follow-up" in page
    assert "Survival by Tumor area</td>" in page


def test_a_cohort_without_a_result_has_a_page():
    page = page_of([failed_row("f")], None, None)
    assert "<h2>Measures</h2>" in page
    assert "1 x slide: unreadable" in page


def about_flagged(page: str) -> set[str]:
    """Cells of tests that have no figures without flagged slides."""
    return set(re.findall(r">(no slide is flagged|not comparable|not tested)</td>", page))


def test_flagged_slides_are_those_of_the_question():
    rows = [slide_row(f"s{k}", 1 + k % 7, patient=f"p{k:04}") for k in range(20)]
    asked = planted_clinical(20), "subtype", "os_months", "os_event"
    other = slide_row("other", patient="other", flags=["blurred"])
    page = page_of([*rows, other], *asked)
    assert about_flagged(page) == {"no slide is flagged"}
    assert "<b>0</b><i>of 0 patients; they count</i>" in page
    rows = [slide_row(f"s{k}", 1 + k % 7, patient=f"p{k:04}", flags=["x"]) for k in range(20)]
    assert about_flagged(page_of(rows, *asked)) == {"not comparable", "not tested"}


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([1, 2, 3, 4, 9.5, 5, 6, 7, 8, 9], "1 patient changes an answer if left out, and comes"),
        ([1, 2, 3, 4.5, 5.5, 5, 6, 7, 8, 9], "8 patients change an answer if left out, and come"),
    ],
)
def test_patients_who_change_an_answer_are_counted(shares, text):
    rows = [
        slide_row(f"s{k}", share, patient=f"p{k:04}", foci=1, focus=1)
        for k, share in enumerate(shares)
    ]
    groups = [{"patient_id": f"p{k:04}", "subtype": "ab"[k > 4]} for k in range(10)]
    found = re.search(r"\d+ patients? change.*? first", page_of(rows, groups))
    assert found
    assert found[0] == f"{text} first"


def test_a_cohort_without_groups_has_a_page():
    page = page_of([slide_row("s")], None, None)
    assert "How large are the measures of this cohort?" in page
    assert "<h2>Tests</h2>" not in page
