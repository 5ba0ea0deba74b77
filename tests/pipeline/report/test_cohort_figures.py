"""Choice of plots: one a measure, curves, effects that can be compared."""

import pytest
from cohort_results import joined_cohort, planted_clinical, planted_rows

from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.question import Cut, make_question
from noctile.pipeline.report.cohort_figures import cohort_pictures
from noctile.pipeline.report.cohort_plots import Picture

MEASURES = [
    "tumor_area_mm2",
    "tumor_fraction_of_tissue",
    "tumor_foci",
    "largest_focus_mm2",
    "tumor_fraction_range",
]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Drawing is tested with the plots."""

    def named(_figure, name, *_):
        return Picture(name, "", "", b"", b"")

    monkeypatch.setattr("noctile.pipeline.report.cohort_plots._picture", named)


def names(by: str | None, *survival: str, cuts=()) -> list[str]:
    joined = joined_cohort(planted_rows(30), planted_clinical(30))
    question = make_question(joined, by, *(survival or (None, None)), cuts)
    return [picture.name for picture in cohort_pictures(analyse(joined, question))]


@pytest.mark.parametrize("by", ["subtype", "age"])
def test_groups_and_numbers_have_a_plot_for_each_measure(by):
    assert names(by) == ["effects", *MEASURES]


def test_survival_has_curves_for_groups_and_cuts():
    cuts = [Cut("tumor_area_mm2", 60.5)]
    found = names("subtype", "os_months", "os_event", cuts=cuts)
    assert found[:2] == ["survival", "survival_tumor_area_mm2_1"]


def test_a_cut_that_no_patient_has_lends_its_name_to_no_other():
    cuts = [Cut("necrosis_fraction", 0.1), Cut("tumor_area_mm2", 60.5)]
    found = names("subtype", "os_months", "os_event", cuts=cuts)
    assert found[:3] == ["survival", "survival_tumor_area_mm2_1", "effects"]


def test_a_cohort_without_groups_has_its_distributions():
    joined = joined_cohort(planted_rows(10))
    analysis = analyse(joined, make_question(joined, None, None, None))
    assert [picture.name for picture in cohort_pictures(analysis)] == MEASURES
