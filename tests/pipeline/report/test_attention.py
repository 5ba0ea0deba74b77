"""Slides that need a look."""

import re
from pathlib import Path

import pytest

from noctile.pipeline.report.attention import queue_of, remedy


def row(slide_id: str, **values) -> dict:
    figures = {"mean_confidence": 0.9, "seam_disagreement": 0.01, "tumor_fraction_of_tissue": 0.2}
    return {"slide_id": slide_id, "status": "done", "qc_flags": []} | figures | values


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"qc_flags": ["pen_marks"]}, "pen_marks: ink of a pen was found and left out"),
        ({"qc_flags": ["of_another_version"]}, "of_another_version"),
        ({"mean_confidence": 0.4}, "mean confidence 0.400"),
        ({"seam_disagreement": 0.3}, "seam disagreement 0.300"),
    ],
)
def test_each_reason_is_given(values, why):
    (item,) = queue_of([row("a", **values), row("b")])
    assert (item.row["slide_id"], item.reasons) == ("a", (why,))


def test_a_slide_far_from_the_median_is_found():
    rows = [row(f"s{k}", tumor_fraction_of_tissue=0.2 + k / 100) for k in range(10)]
    (item,) = queue_of([*rows, row("far", tumor_fraction_of_tissue=0.9)])
    assert item.row["slide_id"] == "far"
    assert item.reasons == ("tumor fraction 0.900, median of the folder 0.250",)
    assert queue_of([*rows[:5], row("far", tumor_fraction_of_tissue=0.9)]) == []


def test_more_reasons_and_less_confidence_come_first():
    rows = [
        row("one", mean_confidence=0.5),
        row("less", mean_confidence=0.3),
        row("two", mean_confidence=0.5, qc_flags=["seams"]),
    ]
    assert [item.row["slide_id"] for item in queue_of(rows)] == ["two", "less", "one"]


def test_reviewed_failed_and_empty_slides_are_left_out():
    flagged = {"qc_flags": ["seams"]}
    none = dict.fromkeys(("mean_confidence", "seam_disagreement", "tumor_fraction_of_tissue"))
    rows = [
        row("failed", status="failed", **flagged),
        row("accepted", review_status="accepted", **flagged),
        row("rejected", review_status="rejected", **flagged),
        row("earlier", review_status="accepted", reviewed_result="earlier", **flagged),
        row("glass", **none),
        row("again", review_status="look_again", **flagged),
    ]
    assert [item.row["slide_id"] for item in queue_of(rows)] == ["again", "earlier"]


def test_each_documented_reason_has_a_remedy():
    text = (Path(__file__).parents[3] / "docs" / "what-happens.md").read_text(encoding="utf-8")
    section = text.partition("## Reason codes")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    reasons = [reason for cell in first_cells for reason in re.findall(r"`(\w+)`", cell)]
    assert len(reasons) > 15
    assert [reason for reason in reasons if remedy(reason) == remedy(None)] == []
