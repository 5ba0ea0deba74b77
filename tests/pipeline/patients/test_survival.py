"""Survival of a planted cohort against statsmodels, from the rows of the tables."""

import numpy as np
import pandas as pd
import pytest
from cohort_results import joined_cohort, planted_clinical, planted_rows
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from noctile.pipeline.patients.analysis import Analysis, analyse
from noctile.pipeline.patients.question import Cut, make_question
from noctile.pipeline.patients.survival import cut_sides

CUT = Cut("tumor_fraction_of_tissue", 0.4)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    clinical = planted_clinical()
    clinical[3]["os_months"] = ""
    clinical[4]["os_months"] = "-2"
    joined = joined_cohort(planted_rows(), clinical)
    return analyse(joined, make_question(joined, "subtype", "os_months", "os_event", [CUT]))


@pytest.fixture(scope="module")
def frame(analysis) -> pd.DataFrame:
    found = pd.DataFrame(planted_clinical()).drop([3, 4])
    values = {name: np.delete(v, [3, 4]) for name, v in analysis.values.values.items()}
    numbers = found[["os_months", "os_event"]].astype(float)
    return found.assign(**numbers, **values).reset_index(drop=True)


def test_patients_without_a_usable_time_are_counted(analysis, frame):
    assert (analysis.survival.n, analysis.survival.without) == (198, 2)
    assert analysis.survival.events == frame["os_event"].sum()


def test_curves_are_those_of_statsmodels(analysis, frame):
    for group, curve in analysis.survival.curves[0].curves.items():
        rows = frame[frame["subtype"] == group]
        expected = SurvfuncRight(rows["os_months"], rows["os_event"])
        for time in (5, 20, 50):
            last = np.flatnonzero(curve.time <= time)[-1]
            theirs = expected.surv_prob[expected.surv_times <= time][-1]
            assert curve.survival[last] == pytest.approx(theirs)


def test_groups_differ_by_the_log_rank_test(analysis, frame):
    (test,) = [t for t in analysis.survival.tests if t.family == "survival_by"]
    statistic, p = survdiff(frame["os_months"], frame["os_event"], frame["subtype"])
    assert (test.statistic, test.p) == pytest.approx((statistic, p))
    x = (frame["subtype"] == "a").astype(float).to_numpy()[:, None]
    fit = PHReg(frame["os_months"], x, frame["os_event"], ties="efron").fit()
    assert test.hazard_ratio.value == pytest.approx(np.exp(fit.params[0]), rel=1e-4)
    assert (test.a, test.b) == ("a", "b")
    assert test.p < 0.05


def test_measures_have_hazard_ratios_per_standard_deviation(analysis, frame):
    tests = [t for t in analysis.survival.tests if t.family == "survival"]
    assert len(tests) == 5
    ps = []
    for test in tests:
        rows = frame.dropna(subset=[test.measure])
        x = rows[test.measure] / rows[test.measure].std()
        fit = PHReg(rows["os_months"], x.to_numpy()[:, None], rows["os_event"], ties="efron").fit()
        assert test.hazard_ratio.value == pytest.approx(np.exp(fit.params[0]), rel=1e-4)
        assert test.p == pytest.approx(fit.pvalues[0], rel=1e-3)
        ps.append(test.p)
    assert min(t.p_holm for t in tests) == pytest.approx(min(1, 5 * min(ps)))


def test_a_cut_has_two_sides_and_its_own_family(analysis, frame):
    (test,) = [t for t in analysis.survival.tests if t.family == "survival_cut"]
    sides = frame[CUT.measure] >= CUT.value
    assert test.p == pytest.approx(survdiff(frame["os_months"], frame["os_event"], sides)[1])
    assert (test.a, test.b) == (">= 0.4", "< 0.4")
    curves = analysis.survival.curves[1].curves
    assert curves["< 0.4"].at_risk[0] + curves[">= 0.4"].at_risk[0] <= 198
    assert cut_sides(CUT, np.array([0.4, 0.39])) == [">= 0.4", "< 0.4"]


def test_few_events_are_not_tested():
    rows = [{**row, "os_event": str(int(k < 3))} for k, row in enumerate(planted_clinical(20))]
    joined = joined_cohort(planted_rows(20), rows)
    found = analyse(joined, make_question(joined, None, "os_months", "os_event")).survival
    assert (found.events, found.tests) == (3, ())
    assert list(found.curves[0].curves) == ["all patients"]
