import numpy as np
import pytest
from scipy import stats

from benchmarks.audit import MEASURES, Cell, score_groups
from noctile.pipeline.audit.comparison import PatientAreas, group_difference, patient_areas
from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.sample import UNSURE, AuditFrame, AuditSample


def cohort(seed: int = 0) -> tuple[AuditFrame, AuditSample]:
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(12), 2)
    frame = AuditFrame(patients, patients % 2, rng.uniform(1, 9, (24, 2)), np.ones(24))
    slides, strata = np.repeat(np.arange(24), 10), np.tile([0, 1], 120)
    answers = np.where(rng.random(240) < 0.8, strata, 1 - strata)
    answers[::17] = UNSURE
    return frame, AuditSample(slides, strata, answers, np.full(240, 0.5))


def test_patients_add_up_to_the_corrected_area_of_their_group():
    frame, sample = cohort()
    areas = patient_areas(frame, sample, 0)
    assert areas.analysed_mm2.sum() == pytest.approx(frame.area_mm2.sum())
    for group in (0, 1):
        rows = areas.groups == group
        found = corrected_areas(frame, sample, group).classes[0]
        assert rows.sum() == 6
        assert areas.area_mm2[rows].sum() == pytest.approx(found.area_mm2.value)


def test_area_of_a_patient_by_hand():
    """One stratum of 10 + 30 mm2, 4 points each, 3 and 1 of them true: p = 0.5, weight 5 mm2."""
    frame = AuditFrame(
        np.array([0, 1]), np.array([0, 0]), np.array([[10.0, 0], [30, 0]]), np.ones(2)
    )
    answers = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    sample = AuditSample(np.repeat([0, 1], 4), np.zeros(8, int), answers, np.full(8, 5.0))
    assert patient_areas(frame, sample, 0).area_mm2 == pytest.approx([5 + 5, 15 - 5])


def test_means_are_compared_by_welchs_test():
    rng = np.random.default_rng(3)
    groups = np.repeat([0, 1, 2], [8, 14, 3])
    areas = PatientAreas(groups, rng.normal(5, 2, 25), rng.uniform(10, 20, 25))
    shares = areas.area_mm2 / areas.analysed_mm2
    for measure, values in (("area", areas.area_mm2), ("patient_share", shares)):
        found = group_difference(areas, 0, 1, measure)
        expected = stats.ttest_ind(values[groups == 0], values[groups == 1], equal_var=False)
        interval = expected.confidence_interval()
        assert found.p == pytest.approx(expected.pvalue)
        assert found.df == pytest.approx(expected.df)
        assert (found.difference.low, found.difference.high) == pytest.approx(
            (interval.low, interval.high)
        )
        assert found.patients == (8, 14)


def test_ratio_of_equal_patients_is_compared_by_welchs_test():
    rng = np.random.default_rng(4)
    groups = np.repeat([0, 1], [9, 12])
    areas = PatientAreas(groups, rng.normal(5, 2, 21), np.full(21, 10.0))
    found, same = (group_difference(areas, 0, 1, measure) for measure in ("share", "patient_share"))
    assert found.p == pytest.approx(same.p)
    assert found.first.low == pytest.approx(same.first.low)


def test_variance_of_a_ratio_lies_near_the_jackknife():
    rng = np.random.default_rng(5)
    analysed = rng.lognormal(3, 0.7, 60)
    area = analysed * rng.uniform(0.1, 0.6, 60)
    areas = PatientAreas(np.repeat([0, 1], 30), area, analysed)
    found = group_difference(areas, 0, 1, "share")
    variance = 0.0
    for rows in (np.arange(30), np.arange(30, 60)):
        left = [np.delete(rows, i) for i in range(30)]
        ratios = np.array([area[some].sum() / analysed[some].sum() for some in left])
        variance += 29 / 30 * np.square(ratios - ratios.mean()).sum()
    half = (found.difference.high - found.difference.low) / 2
    assert half / stats.t.ppf(0.975, found.df) == pytest.approx(np.sqrt(variance), rel=0.1)


def test_too_few_patients_or_no_spread_give_nothing():
    areas = PatientAreas(np.array([0, 0, 1]), np.ones(3), np.ones(3))
    assert group_difference(areas, 0, 1) is None
    same = PatientAreas(np.array([0, 0, 1, 1]), np.ones(4), np.ones(4))
    assert group_difference(same, 0, 1) is None


@pytest.mark.parametrize(
    "cell",
    [Cell((0.85, 0.85), 0.93, 0.1, 30, 300), Cell((0.95, 0.6), 0.93, 0.1, 60, 300)],
    ids=["same model", "worse in one group"],
)
def test_the_null_is_rejected_at_its_nominal_rate(cell):
    rates = score_groups(cell, 150, seed=5)
    most = stats.binom(150, 0.055).ppf(1 - 1e-4) / 150
    assert max(rates[measure] for measure in MEASURES) <= most
    assert min(rates[measure] for measure in MEASURES) > 0
    if cell.sensitivity == (0.95, 0.6):
        assert rates["raw"] > 0.5
