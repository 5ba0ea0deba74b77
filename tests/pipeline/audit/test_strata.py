"""Variances of design strata by brute force."""

import itertools

import numpy as np
import pytest

from noctile.pipeline.audit.design import allocate, choose_slides, weights_mm2
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.pipeline.audit.strata import LEAST_EFFECT, spread_of, strata_of


def test_differences_are_the_mean_over_all_orders_of_points_on_each_slide():
    """Three slides by share: orders of points on each slide are tried one by one."""
    area = np.array([[1.0, 9.0], [3.0, 7.0], [6.0, 4.0]])
    frame = AuditFrame(np.arange(3), np.zeros(3, int), area, np.ones(3))
    answers = [(0, 1, 1), (1,), (0, 0, 1)]
    slides = np.repeat(np.arange(3), [3, 1, 3])
    shuffled = np.array([4, 0, 6, 3, 1, 5, 2])
    values = np.concatenate(answers)
    sample = AuditSample(slides[shuffled], np.zeros(7, int), values[shuffled], np.ones(7))
    orders = itertools.product(*(itertools.permutations(part) for part in answers))
    squares = [np.square(np.diff(np.concatenate(order))).sum() for order in orders]
    expected = 10.0**2 / 7 * np.mean(squares) / (2 * 6)
    found = strata_of(frame, sample)
    assert found.within[0] == pytest.approx([expected, expected])
    assert found.simple[0, 0] == pytest.approx(100 * values.var(ddof=1) / 7)


def test_variance_agrees_with_that_of_repeated_samples_of_few_slides():
    """All slides, with errors that differ: points spread over slides vary less than at random."""
    rng = np.random.default_rng(0)
    area = rng.uniform(2, 20, (6, 2))
    true = rng.beta(1, 1, (6, 2))
    groups, kept = np.zeros(6, int), np.ones(2, bool)
    totals, variances, simple = [], [], []
    for seed in range(400):
        counts = allocate(area, groups, np.ones(6), 120, seed)
        row, stratum = np.nonzero(counts)
        row, stratum = (np.repeat(x, counts[row, stratum]) for x in (row, stratum))
        answers = (rng.random(120) >= true[row, stratum]).astype(int)
        weights = weights_mm2(area, groups, np.ones(6), counts)[row, stratum]
        frame = AuditFrame(np.arange(6), groups, area, np.ones(6))
        strata = strata_of(frame, AuditSample(row, stratum, answers, weights))
        totals.append((strata.area_mm2 * strata.proportion[:, 0]).sum())
        variances.append(spread_of(strata, groups, kept, 0).variance)
        simple.append(strata.simple[:, 0].sum())
    assert np.mean(variances) == pytest.approx(np.var(totals), rel=0.25)
    assert np.mean(simple) > 1.15 * np.var(totals)


def test_variance_agrees_with_that_of_repeated_choices_of_slides():
    rng = np.random.default_rng(1)
    n = 60
    area = np.column_stack([rng.uniform(2, 20, n), rng.uniform(2, 20, n)])
    true = np.column_stack([rng.beta(2, 1, n), rng.beta(1, 6, n)])
    groups, patients, kept = np.zeros(n, int), np.arange(n), np.ones(2, bool)
    totals, variances = [], []
    for seed in range(300):
        probability, chosen = choose_slides(area.sum(axis=1), groups, patients, 20, seed)
        rows = np.flatnonzero(chosen)
        part = (area[rows], groups[rows], probability[rows])
        counts = allocate(*part, 200, seed)
        row, stratum = np.nonzero(counts)
        row, stratum = (np.repeat(x, counts[row, stratum]) for x in (row, stratum))
        answers = (rng.random(200) >= true[rows[row], stratum]).astype(int)
        weights = weights_mm2(*part, counts)[row, stratum]
        frame = AuditFrame(patients, groups, area, probability)
        strata = strata_of(frame, AuditSample(rows[row], stratum, answers, weights))
        totals.append((strata.area_mm2 * strata.proportion[:, 0]).sum())
        variances.append(spread_of(strata, groups, kept, 0).variance)
    assert np.mean(totals) == pytest.approx((area * true).sum(), rel=0.02)
    assert np.mean(variances) == pytest.approx(np.var(totals), rel=0.3)


def test_uneven_weights_count_as_fewer_points():
    """Weights 1, 1, 1, 3: (6 squared) / 12 = 3 points; half of the weight is true."""
    frame = AuditFrame(np.zeros(1, int), np.zeros(1, int), np.array([[8.0, 0.0]]), np.ones(1))
    answers, weights = np.array([0, 0, 0, 1]), np.array([1.0, 1, 1, 3])
    found = strata_of(frame, AuditSample(np.zeros(4, int), np.zeros(4, int), answers, weights))
    assert found.points[0] == pytest.approx(3)
    assert found.proportion[0] == pytest.approx([0.5, 0.5])
    assert found.scale[0] == pytest.approx(8 / 6)


def test_a_small_design_effect_is_taken_for_chance():
    """Each slide is of one class: no difference within slides, one between them."""
    frame = AuditFrame(np.arange(2), np.zeros(2, int), np.array([[5.0, 1.0], [5.0, 2]]), np.ones(2))
    answers = np.repeat([0, 1], 20)
    sample = AuditSample(np.repeat([0, 1], 20), np.zeros(40, int), answers, np.ones(40))
    strata = strata_of(frame, sample)
    spread = spread_of(strata, frame.groups, np.array([True, False]), 0)
    assert spread.variance == pytest.approx(100 / 40 / (2 * 39))
    assert spread.effect == LEAST_EFFECT
    assert spread.slides_part == 0
