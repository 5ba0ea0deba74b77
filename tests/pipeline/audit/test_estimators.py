"""Corrected areas: a published example, all samples of a small population, simulated cohorts."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.audit import Cell, area_cells, score_areas
from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.sample import UNREADABLE, UNSURE, AuditFrame, AuditSample

OLOFSSON_COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, table 8: points by predicted (row) and true class (column)."""

OLOFSSON_HA = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09
"""Table 8: areas of the predicted classes (ha), from pixels of 30 m."""


def one_slide(area: np.ndarray, counts: np.ndarray) -> tuple[AuditFrame, AuditSample]:
    """Return a frame of one slide with points in random order."""
    strata, answers = np.nonzero(counts)
    times = counts[strata, answers]
    strata, answers = np.repeat(strata, times), np.repeat(answers, times)
    order = np.random.default_rng(0).permutation(len(strata))
    strata, answers = strata[order], answers[order]
    frame = AuditFrame(np.array([0]), np.array([0]), area[None], np.array([1.0]))
    weights = area[strata] / np.bincount(strata, minlength=len(area))[strata]
    return frame, AuditSample(np.zeros_like(strata), strata, answers, weights)


def test_published_example_of_olofsson_2014():
    """Deforestation: 21,158 ha with a margin of 6,158 ha; user's 0.88, producer's 0.75."""
    found = corrected_areas(*one_slide(OLOFSSON_HA, OLOFSSON_COUNTS))
    areas = [found.classes[k].area_mm2.value for k in range(4)]
    margins = [1.96 * found.classes[k].standard_error_mm2 for k in range(4)]
    assert areas == pytest.approx([21_158, 11_686, 285_770, 581_386], abs=1)
    assert margins == pytest.approx([6_158, 3_756, 15_510, 16_282], abs=1)
    users = [found.classes[k].users_accuracy.value for k in range(4)]
    producers = [found.classes[k].producers_accuracy.value for k in range(4)]
    assert users == pytest.approx([0.88, 0.73, 0.93, 0.96], abs=0.005)
    assert producers == pytest.approx([0.75, 0.85, 0.93, 0.96], abs=0.006)
    assert found.matrix_mm2.sum() == pytest.approx(OLOFSSON_HA.sum())
    first = found.classes[0]
    assert first.design_effect == pytest.approx(1)
    assert first.area_mm2.high - first.area_mm2.low == pytest.approx(2 * 6_158, rel=0.15)
    assert first.area_mm2.high - 21_158 > 21_158 - first.area_mm2.low  # few deforested points


def test_interval_equals_the_exact_beta_quantiles_in_a_single_stratum():
    """One stratum with 60 of 80 points right; t with 79 degrees of freedom."""
    frame, sample = one_slide(np.array([100.0, 0.0]), np.array([[60, 20], [0, 0]]))
    area = corrected_areas(frame, sample).classes[0].area_mm2
    effect = 1 / (1 - 1 / 80)  # p (1 - p) / 79 by p (1 - p) / 80
    assert area.value == pytest.approx(75)
    effective = 80 / (stats.t.ppf(0.975, 79) / stats.norm.ppf(0.975)) ** 2
    assert effect == pytest.approx(80 / 79)
    right = 0.75 * effective
    beta = stats.beta(right + 0.5, effective - right + 0.5)
    assert (area.low, area.high) == pytest.approx((100 * beta.ppf(0.025), 100 * beta.ppf(0.975)))


def test_estimate_is_unbiased_over_all_samples_of_a_small_population():
    """Every pair of points of each of two strata; the variance is unbiased with replacement."""
    true = [np.array([0, 0, 1, 0]), np.array([1, 1, 0])]
    area = np.array([4.0, 3.0])
    frame = AuditFrame(np.array([0]), np.array([0]), area[None], np.array([1.0]))
    strata = np.array([0, 0, 1, 1])
    values, variances = [], []
    for a in itertools.product(true[0], repeat=2):
        for b in itertools.product(true[1], repeat=2):
            sample = AuditSample(np.zeros(4, int), strata, np.array([*a, *b]), area[strata] / 2)
            found = corrected_areas(frame, sample).classes[0]
            values.append(found.area_mm2.value)
            variances.append(found.standard_error_mm2**2)
    assert len(values) == 4**2 * 3**2
    assert np.mean(values) == pytest.approx(
        4
    )  # three pixels of the first stratum, one of the other
    assert np.mean(variances) == pytest.approx(np.var(values))


def test_two_stages_agree_with_the_variance_of_totals_of_slides():
    """Few of very many slides: the variance is that of weighted totals of slides."""
    rng = np.random.default_rng(4)
    n, m = 12, 10
    area = np.column_stack([np.full(n, 2.0), np.zeros(n)])
    frame = AuditFrame(np.arange(n), np.zeros(n, int), area, np.full(n, 1e-9))
    slides = np.repeat(np.arange(n), m)
    answers = (rng.random(n * m) < rng.beta(2, 2, n)[slides]).astype(int)
    sample = AuditSample(slides, np.zeros(n * m, int), answers, np.ones(n * m))
    found = corrected_areas(frame, sample).classes[0]
    by_slide = 2 * (1 - answers.reshape(n, m).mean(axis=1))
    assert found.area_mm2.value == pytest.approx(by_slide.sum())
    assert found.standard_error_mm2 == pytest.approx(math.sqrt(n * by_slide.var(ddof=1)))
    assert found.df == pytest.approx(n - 1)
    assert found.slides_part == pytest.approx(1)


def test_groups_add_up_to_the_cohort_and_stand_alone():
    rng = np.random.default_rng(2)
    area = rng.uniform(1, 5, (6, 3))
    groups = np.array([0, 0, 0, 1, 1, 1])
    frame = AuditFrame(np.arange(6) // 2, groups, area, np.ones(6))
    slides, strata = np.repeat(np.arange(6), 30), np.tile(np.arange(3), 60)
    sample = AuditSample(slides, strata, rng.integers(0, 3, 180), np.ones(180))
    whole = corrected_areas(frame, sample)
    parts = [corrected_areas(frame, sample, group) for group in (0, 1)]
    assert whole.matrix_mm2 == pytest.approx(parts[0].matrix_mm2 + parts[1].matrix_mm2)
    assert [part.patients for part in parts] == [2, 2]
    assert [part.points for part in parts] == [90, 90]
    for k in range(3):
        both = [part.classes[k].standard_error_mm2 for part in parts]
        assert whole.classes[k].standard_error_mm2 == pytest.approx(math.hypot(*both))
        mean, area_k = whole.classes[k].patient_mean_mm2, whole.classes[k].area_mm2
        assert mean.low == pytest.approx(area_k.low / 3)
        assert whole.classes[k].share.high == pytest.approx(area_k.high / area.sum())


def test_points_left_out_are_counted_and_bound_the_area():
    """8 of 10 points answered, 6 of them tumor: 75 %; at least 60 %, at most 80 %."""
    frame, sample = one_slide(np.array([100.0, 50.0]), np.array([[6, 4], [0, 5]]))
    tumor = np.flatnonzero((sample.strata == 0) & (sample.answers == 1))[:2]
    sample.answers[tumor] = UNSURE, UNREADABLE
    found = corrected_areas(frame, sample)
    assert (found.points, found.unsure, found.unreadable) == (13, 1, 1)
    first = found.classes[0]
    assert first.area_mm2.value == pytest.approx(75)
    assert (first.least_mm2, first.most_mm2) == pytest.approx((60, 80))


def test_a_stratum_without_points_is_taken_as_predicted_with_all_its_area_in_the_interval():
    frame, sample = one_slide(np.array([100.0, 7.0]), np.array([[10, 0], [0, 0]]))
    found = corrected_areas(frame, sample)
    assert found.unsampled_mm2 == 7
    assert found.classes[0].area_mm2.value == 100
    assert found.classes[0].area_mm2.high == pytest.approx(107)
    assert found.classes[1].area_mm2.value == 7
    assert found.classes[1].area_mm2.low == 0


def test_strata_without_an_error_still_have_an_interval():
    frame, sample = one_slide(np.array([100.0, 100.0]), np.array([[50, 0], [0, 50]]))
    first = corrected_areas(frame, sample).classes[0]
    assert first.standard_error_mm2 == 0
    assert first.area_mm2.low == pytest.approx(100 * (1 - 0.0488), rel=0.01)
    assert first.area_mm2.high == pytest.approx(100 * (1 + 0.0488), rel=0.01)
    assert first.producers_accuracy.value == 1
    assert 0.9 < first.producers_accuracy.low < 0.97


def test_half_of_the_answers_in_random_order_will_do():
    frame, sample = one_slide(OLOFSSON_HA, OLOFSSON_COUNTS * 8)
    half = slice(0, len(sample.answers) // 2)
    part = AuditSample(
        sample.slides[half], sample.strata[half], sample.answers[half], sample.weights_mm2[half]
    )
    found = corrected_areas(frame, part).classes[0].area_mm2
    assert found.low < 21_158 < found.high
    assert found.value == pytest.approx(21_158, rel=0.15)


def test_no_answers_and_no_slides():
    frame, sample = one_slide(np.array([3.0, 4.0]), np.array([[1, 0], [0, 1]]))
    none = AuditSample(*(np.zeros(0, int) for _ in range(3)), np.zeros(0))
    found = corrected_areas(frame, none)
    assert found.points == 0
    assert found.classes[0].area_mm2.value == 3
    assert (found.classes[0].area_mm2.low, found.classes[0].area_mm2.high) == (0, 7)
    with pytest.raises(ValueError, match="no slides"):
        corrected_areas(frame, sample, group=3)


def limits(cohorts: int, low: float = 0.93, high: float = 0.97) -> tuple[float, float]:
    """Return limits that a coverage from low to high leaves once in 10,000 times."""
    return (
        stats.binom(cohorts, low).ppf(1e-4) / cohorts,
        stats.binom(cohorts, high).ppf(1 - 1e-4) / cohorts,
    )


@pytest.mark.parametrize(
    "cell",
    [
        Cell((0.6,), 0.8, 0.1, 5, 150),
        Cell((0.85,), 0.93, 0.3, 200, 300, chosen=20),
    ],
    ids=str,
)
def test_intervals_cover_the_truth_of_simulated_cohorts(cell):
    scores = score_areas(cell, 200, seed=11)
    low, high = limits(200)
    for score in (scores.area, scores.users, scores.producers):
        assert low <= score.coverage <= high
    noise = np.std(scores.area.errors) / np.mean(scores.area.truths) / np.sqrt(200)
    assert abs(scores.area.bias) <= 0.01 + 3 * noise


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cell", area_cells(), ids=str)
def test_intervals_cover_the_truth_in_all_cells(cell):
    scores = score_areas(cell, 2000)
    low, high = limits(2000)
    assert low <= scores.area.coverage <= high
    assert abs(scores.area.bias) <= 0.01 + 3 * np.std(scores.area.errors) / np.mean(
        scores.area.truths
    ) / np.sqrt(2000)


def test_interval_does_not_depend_on_groups_that_are_alike():
    """Two groups with equal areas and answers: as if all points were of one stratum."""
    area = np.array([[30.0, 70.0], [30.0, 70.0]])
    slides, strata = np.repeat([0, 1], 40), np.tile(np.repeat([0, 1], 20), 2)
    answers = np.tile(np.r_[np.zeros(16, int), np.ones(4, int), np.ones(19, int), 0], 2)
    weights = np.array([1.5, 3.5])[strata]
    sample = AuditSample(slides, strata, answers, weights)
    found = [
        corrected_areas(AuditFrame(np.arange(2), groups, area, np.ones(2)), sample).classes[0]
        for groups in (np.zeros(2, int), np.arange(2))
    ]
    assert found[0].area_mm2.value == pytest.approx(found[1].area_mm2.value)
    assert found[0].area_mm2.low == pytest.approx(found[1].area_mm2.low, rel=0.01)
    assert found[0].area_mm2.high == pytest.approx(found[1].area_mm2.high, rel=0.01)
