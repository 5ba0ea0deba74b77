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
from noctile.pipeline.patients.values import patient_values
from noctile.pipeline.statistics.multiplicity import holm

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


def test_medians_and_follow_up_are_those_of_statsmodels(analysis, frame):
    sides = np.where(frame[CUT.measure] >= CUT.value, ">= 0.4", "< 0.4")
    rows = [("", "all patients", frame)]
    rows += [("subtype", group, frame[frame["subtype"] == group]) for group in "ab"]
    rows += [("Tumor fraction, cut at 0.4", s, frame[sides == s]) for s in ("< 0.4", ">= 0.4")]
    found = analysis.survival.groups
    for group, (subject, name, part) in zip(found, rows, strict=True):
        assert (group.subject, group.name) == (subject, name)
        assert (group.n, group.events) == (len(part), part["os_event"].sum())
        for median, event in (
            (group.curve.median, part["os_event"]),
            (group.curve.follow_up, 1 - part["os_event"]),
        ):
            other = SurvfuncRight(part["os_months"], event)
            with np.errstate(divide="ignore", invalid="ignore"):
                ends = other.quantile_ci(0.5, method="cloglog")
            figures = median.value, median.low, median.high
            assert figures == pytest.approx((other.quantile(0.5), *ends), nan_ok=True)


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


def survival_of_groups(sizes: dict[str, int], *cuts: Cut):
    clinical = planted_clinical(40)
    names = [name for name, size in sizes.items() for _ in range(size)]
    for row, name in zip(clinical, names, strict=True):
        row["subtype"] = name
    joined = joined_cohort(planted_rows(40), clinical)
    question = make_question(joined, "subtype", "os_months", "os_event", cuts)
    return pd.DataFrame(clinical), analyse(joined, question).survival


def test_groups_of_few_patients_have_curves_and_are_not_compared():
    frame, found = survival_of_groups({"a": 18, "b": 18, "few": 4})
    assert list(found.curves[0].curves) == ["a", "b", "few"]
    (test,) = [t for t in found.tests if t.family == "survival_by"]
    rest = frame[frame["subtype"] != "few"]
    numbers = rest[["os_months", "os_event"]].astype(float)
    p = survdiff(numbers["os_months"], numbers["os_event"], rest["subtype"])[1]
    assert (test.n, test.a, test.b, test.p) == (36, "a", "b", pytest.approx(p))
    assert found.not_tested == (("subtype, few", "fewer than 5 patients"),)


def test_a_single_large_group_is_not_compared():
    reason = "fewer than two groups of 5 patients"
    cut = Cut("tumor_fraction_of_tissue", 0.99)
    _, found = survival_of_groups({"a": 36, "few": 4}, cut)
    assert {t.family for t in found.tests} == {"survival"}
    expected = (("subtype", reason), ("Tumor fraction, cut at 0.99", reason))
    assert found.not_tested == expected


def hazard(time, event, x) -> tuple[float, float]:
    """Log hazard ratio and p-value by statsmodels."""
    x = np.asarray(x, float)[:, None]
    fit = PHReg(time, x, event, ties="efron").fit(disp=False)
    return float(fit.params[0]), float(fit.pvalues[0])


def test_influence_on_measures_is_a_fit_without_the_patient(analysis, frame):
    found = [i for i in analysis.influences if i.test.family == "survival"]
    tests = [t for t in analysis.survival.tests if t.family == "survival"]
    assert len(found) == sum(t.n for t in tests)
    for wanted in (found[0], found[100], found[-1]):
        size, k, ps = 0.0, [t.measure for t in tests].index(wanted.test.measure), []
        rest = frame[frame["patient_id"] != wanted.patient.patient_id]
        for test in tests:
            rows = rest.dropna(subset=[test.measure])
            beta, p = hazard(
                rows["os_months"], rows["os_event"], rows[test.measure] / frame[test.measure].std()
            )
            ps.append(p)
            size = beta if test.measure == wanted.test.measure else size
        assert wanted.effect == pytest.approx(size, abs=1e-5)
        assert wanted.change == pytest.approx(size - np.log(tests[k].hazard_ratio.value), abs=1e-5)
        assert wanted.p_holm == pytest.approx(holm(ps)[k], rel=1e-3)
        assert wanted.changes == ((wanted.p_holm < 0.05) != tests[k].differs)


@pytest.mark.parametrize("family", ["survival_by", "survival_cut"])
def test_influence_on_groups_is_a_test_without_the_patient(analysis, frame, family):
    found = [i for i in analysis.influences if i.test.family == family]
    for wanted in (found[0], found[-1]):
        rest = frame[frame["patient_id"] != wanted.patient.patient_id]
        a = rest["subtype"] == "a" if family == "survival_by" else rest[CUT.measure] >= CUT.value
        expected = survdiff(rest["os_months"], rest["os_event"], a)[1]
        assert wanted.p_holm == pytest.approx(expected)
        beta, _ = hazard(rest["os_months"], rest["os_event"], a)
        assert wanted.effect == pytest.approx(beta, abs=1e-5)


def test_tests_without_flagged_slides_are_tests_of_the_other_slides(analysis):
    calm = planted_rows()
    calm = [row for row in calm if not row.summary["qc_flags"]]
    joined = joined_cohort(calm, planted_clinical())
    values = patient_values(joined.patients)
    frame = pd.DataFrame(planted_clinical()).set_index("patient_id")
    frame = frame.loc[[patient.patient_id for patient in joined.patients]]
    frame = frame.assign(**values.values).drop(["p0003", "p0004"])
    time, event = frame["os_months"].astype(float), frame["os_event"].astype(float)
    tests = {t.about: t for t in analysis.survival_without_flagged}
    assert tests.keys() == {t.about for t in analysis.survival.tests}
    for (family, measure, _), test in tests.items():
        if family == "survival":
            there = frame[measure].notna()
            x = frame.loc[there, measure]
            beta, p = hazard(time[there], event[there], x / x.std())
            assert np.log(test.hazard_ratio.value) == pytest.approx(beta, abs=1e-5)
        else:
            of = frame["subtype"] if family == "survival_by" else frame[measure] >= CUT.value
            p = survdiff(time, event, of)[1]
        assert test.p == pytest.approx(p, rel=1e-3)


def test_without_flagged_slides_nothing_is_repeated():
    rows = [row for row in planted_rows(60) if not row.summary["qc_flags"]]
    joined = joined_cohort(rows, planted_clinical(60))
    found = analyse(joined, make_question(joined, None, "os_months", "os_event"))
    assert found.survival.tests
    assert found.survival_without_flagged == ()


def test_a_patient_whose_event_is_needed_loses_the_answer():
    """Of ten events, without one there is no test; a difference is lost, no other answer."""
    clinical = planted_clinical(60)
    for k, row in enumerate(clinical):
        late = k >= 20 or k % 2
        row |= {"os_months": str(k + 1), "os_event": str(int(not late))}
    joined = joined_cohort(planted_rows(60), clinical)
    found = analyse(joined, make_question(joined, "subtype", "os_months", "os_event"))
    (test,) = [t for t in found.survival.tests if t.family == "survival_by"]
    assert (test.events, test.differs) == (10, True)
    of = [i for i in found.influences if i.test.family == "survival_by"]
    lost = [i for i in of if np.isnan(i.p_holm)]
    assert {i.patient.patient_id for i in lost} == {f"p{k:04}" for k in range(0, 20, 2)}
    assert all(i.changes for i in lost)
    measures = [i for i in found.influences if i.test.family == "survival" and np.isnan(i.p_holm)]
    assert len(measures) == 10 * len([t for t in found.survival.tests if t.family == "survival"])
    assert not any(i.changes for i in measures)


def test_more_than_two_groups_have_the_size_of_two_equal_ones():
    clinical = planted_clinical(90)
    for k, row in enumerate(clinical):
        row["grade"] = str(1 + k % 3)
    joined = joined_cohort(planted_rows(90), clinical)
    found = analyse(joined, make_question(joined, "grade", "os_months", "os_event"))
    (test,) = [t for t in found.survival.tests if t.family == "survival_by"]
    assert test.size == pytest.approx(2 * np.sqrt(test.statistic / test.events))
    influence = next(i for i in found.influences if i.test.family == "survival_by")
    rest = pd.DataFrame(clinical).set_index("patient_id").drop(influence.patient.patient_id)
    event = rest["os_event"].astype(int)
    statistic, p = survdiff(rest["os_months"].astype(float), event, rest["grade"])
    assert influence.p_holm == pytest.approx(p)
    assert influence.effect == pytest.approx(2 * np.sqrt(statistic / event.sum()))
    assert influence.change == pytest.approx(influence.effect - test.size)


def test_the_size_of_two_groups_is_near_their_log_hazard_ratio():
    """Schoenfeld's approximation, which orders more groups among the other tests."""
    joined = joined_cohort(planted_rows(), planted_clinical())
    found = analyse(joined, make_question(joined, "subtype", "os_months", "os_event"))
    (test,) = [t for t in found.survival.tests if t.family == "survival_by"]
    assert 2 * np.sqrt(test.statistic / test.events) == pytest.approx(abs(test.size), rel=0.15)
