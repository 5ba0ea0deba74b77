import numpy as np
import pytest

from benchmarks.audit import Cell, score_areas
from noctile.pipeline.audit.planning import further_points
from noctile.pipeline.statistics.estimate import Estimate


def test_half_the_width_takes_four_times_the_points():
    assert further_points(Estimate(100, 80, 120), 300, 10) == 900


def test_part_of_the_choice_of_slides_stays():
    """Variance 400: 100 of slides, 300 of 300 points; 225 leaves 125, which takes 720 points."""
    assert further_points(Estimate(100, 80, 120), 300, 15, slides_part=0.25) == 720 - 300


def test_narrow_enough_already():
    assert further_points(Estimate(100, 95, 105), 300, 5) == 0


def test_no_number_of_points_suffices():
    assert further_points(Estimate(100, 80, 120), 300, 10, slides_part=0.25) is None
    assert further_points(Estimate(np.nan), 300, 10) is None


def test_a_half_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        further_points(Estimate(100, 80, 120), 300, 0)


def test_the_wanted_width_is_reached_in_simulated_cohorts():
    cell = Cell((0.85,), 0.93, 0.1, 40, 200)
    now = score_areas(cell, 40).area.half_width
    further = further_points(Estimate(1, 1 - now, 1 + now), 200, 0.7 * now)
    then = score_areas(Cell((0.85,), 0.93, 0.1, 40, 200 + further), 40, seed=1).area.half_width
    assert then == pytest.approx(0.7 * now, rel=0.1)


def test_an_audit_that_is_extended_as_its_first_answers_ask_holds_the_truth():
    """150 points, then as many as a half-width of 10 % takes: the width is met, without bias."""
    area = score_areas(Cell((0.85,), 0.93, 0.1, 60, 3000, first=150, half_width=0.1), 200).area
    assert area.half_width == pytest.approx(0.1, abs=0.005)
    assert area.coverage == pytest.approx(0.95, abs=0.04)
    assert abs(area.bias) < 4 * 0.05 / 200**0.5
