"""Influence of single patients, with corrections and ranks by hand."""

import math

import numpy as np
import pytest
from cohort_results import joined_cohort, slide_row

from noctile.pipeline.patients import influence
from noctile.pipeline.patients.influence import find_influences
from noctile.pipeline.patients.values import patient_values
from noctile.pipeline.statistics.without_each import WithoutEach

DOUBTS = (0.5, 0.1, 0.2)


@pytest.fixture
def values():
    """Three patients, of whom the first has a flagged slide."""
    rows = [
        slide_row(f"s{k}", patient=f"p{k}", confidence=1 - doubt, flags=["blurred"] * (k == 0))
        for k, doubt in enumerate(DOUBTS)
    ]
    found = patient_values(joined_cohort(rows).patients)
    assert found.doubt.tolist() == pytest.approx(DOUBTS)
    return found


def made(name, p, p_holm, rows, without_effect, without_p):
    without = WithoutEach(np.array(without_effect, float), np.array(without_p, float))
    return influence.Tested("by", name, "arm", name, p, p_holm, 0.4, np.array(rows), without)


def test_p_values_without_a_patient_are_corrected_over_the_family(values):
    """Patient 2 has no value of the second test, which keeps the p-value of all patients."""
    first = made("a", 0.02, 0.04, [0, 1, 2], [0.4, 0.1, 0.9], [0.03, 0.02, 0.01])
    second = made("b", 0.03, 0.04, [0, 1], [0.4, 0.4], [0.2, 0.024])
    found = {
        (i.patient.patient_id, i.test.measure): i
        for i in find_influences(values, [[first, second]])
    }
    assert len(found) == 5
    expected = {
        ("p0", "a"): 0.06,
        ("p0", "b"): 0.2,
        ("p1", "a"): 0.04,
        ("p1", "b"): 0.04,
        ("p2", "a"): 0.02,
    }
    assert {key: i.p_holm for key, i in found.items()} == pytest.approx(expected)
    assert {key for key, i in found.items() if i.changes} == {("p0", "a"), ("p0", "b")}


def test_changed_answers_come_first_then_influence_times_doubt(values):
    only = made("a", 0.02, 0.02, [0, 1, 2], [0.5, 0.4, -0.4], [0.03, 0.06, 0.04])
    found = find_influences(values, [[only]])
    assert [i.patient.patient_id for i in found] == ["p1", "p2", "p0"]
    assert [i.score for i in found] == pytest.approx([0, 0.8 * 0.2, 0.1 * 0.5])
    assert [i.change for i in found] == pytest.approx([0, -0.8, 0.1])


def test_a_test_that_cannot_be_made_without_a_patient_changes_a_difference(values):
    lost = [math.nan, 0.4, 0.4], [math.nan, 0.03, 0.03]
    first = find_influences(values, [[made("a", 0.02, 0.02, [0, 1, 2], *lost)]])[0]
    assert (first.patient.patient_id, first.changes) == ("p0", True)
    assert math.isnan(first.p_holm)
    assert not any(
        i.changes
        for i in find_influences(values, [[made("a", 0.2, 0.2, [0], [math.nan], [math.nan])]])
    )
