from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.audit.design import (
    POINT_AREA_MM2,
    allocate,
    choose_slides,
    inclusion_probabilities,
    points_by_stratum,
    slide_order,
    stratum_area_mm2,
    systematic,
    weights_mm2,
)
from noctile.pipeline.errors import UsageError


def cohort(slides: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    area = rng.lognormal(3, 1, (slides, 3)) * (rng.random((slides, 3)) < 0.8)
    area[:, 0] += 0.1
    return area, rng.integers(0, 2, slides), np.arange(slides) // 2


def test_all_slides_take_part_by_default():
    area, groups, patients = cohort(7)
    probability, chosen = choose_slides(area.sum(axis=1), groups, patients)
    assert probability.tolist() == [1] * 7
    assert chosen.all()


def test_slides_are_chosen_as_often_as_their_probability_says():
    area, groups, patients = cohort(12)
    size = area.sum(axis=1)
    times = np.zeros(12)
    for seed in range(800):
        probability, chosen = choose_slides(size, groups, patients, 6, seed)
        assert chosen.sum() == 6
        times += chosen
    error = np.sqrt(probability * (1 - probability) / 800)
    assert (np.abs(times / 800 - probability) <= 4.5 * error + 1e-9).all()
    assert probability.min() > 0


def test_each_group_keeps_two_slides_or_all_that_it_has():
    groups = np.array([0] * 10 + [1] * 3 + [2])
    area = np.array([100.0] * 10 + [0.1] * 4)
    _, chosen = choose_slides(area, groups, np.arange(14), 8)
    assert np.bincount(groups, weights=chosen).tolist() == [5, 2, 1]


def test_slides_of_a_patient_are_spread():
    """Two equal slides of each of ten patients, ten of twenty slides: one of each patient."""
    patients = np.repeat(np.arange(10), 2)
    _, chosen = choose_slides(np.ones(20), np.zeros(20, int), patients, 10, seed=3)
    assert np.bincount(patients, weights=chosen).tolist() == [1] * 10


@given(
    st.lists(st.floats(0, 1e4), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) > 0),
    st.data(),
)
def test_probabilities_add_up_and_follow_size(sizes, data):
    number = data.draw(st.integers(1, len(sizes)))
    probability = inclusion_probabilities(np.array(sizes), number)
    assert probability.sum() == pytest.approx(number)
    assert probability.min() > 0
    assert probability.max() <= 1 + 1e-12
    assert (np.diff(probability[np.argsort(sizes, kind="stable")]) >= -1e-9).all()


@given(
    st.lists(st.floats(0, 1e4), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) > 1e-3),
    st.integers(1, 100),
    st.integers(0, 1000),
)
def test_systematic_gives_each_unit_its_share_rounded(sizes, number, seed):
    counts = systematic(np.array(sizes), number, np.random.default_rng(seed))
    assert counts.sum() == number
    for size, count in zip(sizes, counts, strict=True):
        share = number * size / sum(sizes)
        assert floor(share - 1e-6) <= count <= ceil(share + 1e-6)


def test_points_follow_the_root_of_the_area():
    """Areas 1, 4, 25: roots 1, 2, 5 of 8 parts."""
    assert points_by_stratum(np.array([[1.0, 4.0, 25.0]]), 160).tolist() == [[20, 40, 100]]


def test_rare_strata_get_ten_points():
    assert points_by_stratum(np.array([[0.02, 400.0], [0.0, 400.0]]), 300).tolist() == [
        [10, 145],
        [0, 145],
    ]


def test_a_stratum_has_as_many_points_as_its_area_holds():
    tiny, sliver = 7.5 * POINT_AREA_MM2, 1.5 * POINT_AREA_MM2
    assert points_by_stratum(np.array([[tiny, sliver, 100.0]]), 50).tolist() == [[7, 0, 43]]


@pytest.mark.parametrize("points", [6, 7, 40, 300])
def test_all_points_are_allocated_with_two_in_each_stratum(points):
    counts = points_by_stratum(np.array([[0.5, 90.0, 3.0]]), points)
    assert counts.sum() == points
    assert counts.min() >= 2


def test_too_few_points_are_refused():
    with pytest.raises(UsageError, match="Ask for 6 points"):
        points_by_stratum(np.ones((1, 3)), 5)


def test_allocation_keeps_the_points_of_each_stratum_and_empty_cells_empty():
    area, groups, _ = cohort(40)
    counts = allocate(area, groups, np.ones(40), 300, seed=5)
    wanted = points_by_stratum(stratum_area_mm2(area, groups), 300)
    assert stratum_area_mm2(counts.astype(float), groups).tolist() == wanted.tolist()
    assert counts.sum() == 300
    assert (counts[area == 0] == 0).all()
    assert (allocate(area, groups, np.ones(40), 300, seed=5) == counts).all()


def test_slides_chosen_with_less_probability_hold_more_points():
    area = np.full((2, 1), 10.0)
    counts = allocate(area, np.zeros(2, int), np.array([1.0, 0.25]), 50)
    assert counts.tolist() == [[10], [40]]


def test_slides_stand_by_the_share_of_the_class():
    area = np.array([[5.0, 5.0], [1.0, 9.0], [0.0, 3.0], [9.0, 1.0]])
    groups = np.array([0, 0, 0, 1])
    assert slide_order(area, groups, 0, 0).tolist() == [1, 0]
    assert slide_order(area, groups, 0, 1).tolist() == [0, 1, 2]


def test_weights_add_up_to_the_area_of_the_cohort():
    area, groups, _ = cohort(40)
    counts = allocate(area, groups, np.ones(40), 300)
    weights = weights_mm2(area, groups, np.ones(40), counts)
    assert (weights * counts).sum() == pytest.approx(area.sum())
    for group in (0, 1):
        rows = groups == group
        assert (weights * counts)[rows].sum(axis=0) == pytest.approx(area[rows].sum(axis=0))


def test_weighted_counts_of_points_are_unbiased_for_the_area_of_each_cell():
    """Mean over the design, slides chosen at random: the area of each class on each slide."""
    area, groups, patients = cohort(8)
    found = np.zeros((400, *area.shape))
    for seed in range(len(found)):
        probability, chosen = choose_slides(area.sum(axis=1), groups, patients, 5, seed)
        part = (area[chosen], groups[chosen], probability[chosen])
        counts = allocate(*part, 60, seed)
        found[seed, chosen] = weights_mm2(*part, counts) * counts
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - area) <= 4.5 * error + 0.1).all()
    assert found.mean(axis=0).sum() == pytest.approx(area.sum(), rel=0.02)


def test_a_second_batch_fills_each_stratum_up_to_its_share_of_the_total():
    area, groups, _ = cohort(40)
    first = allocate(area, groups, np.ones(40), 150, seed=5)
    more = allocate(area, groups, np.ones(40), 300, 5, first)
    wanted = points_by_stratum(stratum_area_mm2(area, groups), 300)
    assert stratum_area_mm2((first + more).astype(float), groups).tolist() == wanted.tolist()
    assert more.sum() == 150
    assert more.min() >= 0
    assert (more[area == 0] == 0).all()


def test_a_stratum_that_has_more_than_its_share_keeps_its_points():
    """Roots 1, 2 and 5 of 8 parts of 80: 10, 20 and 50. The first has 30 already."""
    area, there = np.array([[1.0, 4.0, 25.0]]), np.array([[30, 5, 5]])
    assert points_by_stratum(area, 80, there).tolist() == [[30, 14, 36]]
    assert points_by_stratum(area, 41, there).sum() == 41


def test_points_of_both_batches_are_unbiased_for_the_area_of_each_cell():
    """Mean over both draws, with slides chosen at random: the area of each class on each slide."""
    area, groups, patients = cohort(8)
    found = np.zeros((400, *area.shape))
    for seed in range(len(found)):
        probability, chosen = choose_slides(area.sum(axis=1), groups, patients, 5, seed)
        part = (area[chosen], groups[chosen], probability[chosen])
        counts = allocate(*part, 30, seed)
        counts = counts + allocate(*part, 60, seed, counts)
        found[seed, chosen] = weights_mm2(*part, counts) * counts
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - area) <= 4.5 * error + 0.1).all()
