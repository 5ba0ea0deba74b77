"""Shares by patients annotated in full, from areas that are given."""

import numpy as np
import pytest
from cohort_results import joined_cohort, slide_row

from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.annotated import IN_FULL, SlideTruth, Truth, annotated, why_unused
from noctile.pipeline.patients.question import make_question

CLASSES = ("tumor", "stroma")


def question(slides: dict[str, str]):
    """Analysis of slides, by their patients."""
    rows = [slide_row(name, patient=patient) for name, patient in slides.items()]
    joined = joined_cohort(rows)
    return analyse(joined, make_question(joined, None, None, None))


def truth(predicted: dict, true: dict, covered: dict | None = None) -> Truth:
    slides = {
        name: SlideTruth(f"{name}.geojson", (covered or {}).get(name, 1.0), np.array(areas))
        for name, areas in true.items()
    }
    return Truth(CLASSES, {n: np.array(a, float) for n, a in predicted.items()}, slides, {})


def test_shares_are_sums_of_a_patients_slides_and_the_model_counts_for_all():
    """The truth is the prediction less 0.1: the mean is that of the line through the patients."""
    slides = {f"s{k}": f"p{k}" for k in range(8)} | {"more": "p0"}
    share = {f"s{k}": 0.2 + k / 20 for k in range(8)}
    predicted = {name: [10 * x, 10 * (1 - x)] for name, x in share.items()}
    predicted["more"] = [0.0, 30.0]  # the share of p0 is 2 / 40
    true = {
        f"s{k}": [10 * (share[f"s{k}"] - 0.1), 10 * (1.1 - share[f"s{k}"])] for k in range(1, 6)
    }
    found = annotated(question(slides), truth(predicted, true))
    assert (found.patients, found.annotated) == (8, 5)
    tumor = next(row for row in found.shares if row.name == "tumor")
    mean = (2 / 40 + sum(share[f"s{k}"] for k in range(1, 8))) / 8
    assert tumor.found.predicted == pytest.approx(mean)
    assert tumor.found.mean.value == pytest.approx(mean - 0.1)
    assert tumor.group is None
    assert {row.name: row.with_class for row in found.shares} == {"tumor": 5, "stroma": 5}


def test_a_patient_with_a_slide_that_is_covered_in_part_is_not_used():
    slides = {f"s{k}": f"p{k}" for k in range(5)} | {"more": "p0"}
    predicted = {key: [4.0, 6.0] for key in slides}
    true = {name: [k + 1.0, 9.0 - k] for k, name in enumerate(slides)}
    found = annotated(question(slides), truth(predicted, true, {"more": IN_FULL - 0.001}))
    assert found.annotated == 4
    status = {slide.slide_id: slide.status for slide in found.slides}
    assert status == {"s0": "patient_in_part", "more": "in_part"} | {
        f"s{k}": "used" for k in range(1, 5)
    }
    reasons = {slide.slide_id: why_unused(slide) for slide in found.unused}
    assert reasons["more"] == "98.9 % of the slide is annotated, and 99 % is needed"
    assert "another slide of patient p0" in reasons["s0"]


def test_too_few_patients_give_no_share():
    slides = {f"s{k}": f"p{k}" for k in range(5)}
    true = {f"s{k}": [1.0, 2.0] for k in range(3)}
    found = annotated(question(slides), truth({key: [1.0, 1.0] for key in slides}, true))
    assert (found.shares, found.annotated) == ((), 3)
    assert found.problem == "3 of 5 patients are annotated in full; 4 are needed"
