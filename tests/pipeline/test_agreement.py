"""Bias and limits of agreement against published figures and a second computation."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from noctile.pipeline.agreement import (
    dice,
    limits_of_agreement,
    percent_of_mean,
    relative_difference,
)

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak expiratory flow (l/min) of 17 persons, first reading with each meter: Bland and Altman,
Lancet 1986, table 1."""


def interval(found) -> tuple[float, float]:
    return found.low, found.high


def test_peak_flow_of_bland_and_altman_1986():
    """The paper gives -2.1 (-22.0 to 17.8), sd 38.8, and limits with 2 instead of 1.96 sd."""
    found = limits_of_agreement(np.array(WRIGHT, float) - np.array(MINI, float))
    assert (round(found.bias.value, 1), round(found.sd, 1), found.n) == (-2.1, 38.8, 17)
    assert interval(found.bias) == pytest.approx((-22.0, 17.8), abs=0.06)
    assert found.lower.value == pytest.approx(-79.7 + 0.04 * 38.8, abs=0.1)
    assert found.upper.value == pytest.approx(75.5 - 0.04 * 38.8, abs=0.1)


def test_blood_pressure_of_bland_and_altman_1999():
    """The paper gives, for 85 persons, -16.29 with sd 19.61: limits -54.7 and 22.1.

    Its intervals are -20.5 to -12.1 for the bias, and -61.9 to -47.5 for the lower limit.
    """
    shape = np.random.default_rng(0).normal(size=85)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    found = limits_of_agreement(-16.29 + 19.61 * shape)
    assert (found.lower.value, found.upper.value) == pytest.approx((-54.7, 22.1), abs=0.06)
    assert interval(found.bias) == pytest.approx((-20.5, -12.1), abs=0.06)
    assert interval(found.lower) == pytest.approx((-61.9, -47.5), abs=0.1)


def test_limits_equal_a_second_computation():
    values = np.random.default_rng(1).gamma(2, size=31) - 1
    found = limits_of_agreement(values)
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    t = stats.t.ppf(0.975, 30)
    assert interval(found.bias) == pytest.approx((mean - t * sd / 31**0.5, mean + t * sd / 31**0.5))
    half = t * math.sqrt(sd**2 / 31 + 1.96**2 * sd**2 / 60)
    assert found.upper.value == pytest.approx(mean + 1.96 * sd)
    assert interval(found.upper) == pytest.approx(
        (mean + 1.96 * sd - half, mean + 1.96 * sd + half)
    )
    assert interval(found.lower) == pytest.approx(
        (mean - 1.96 * sd - half, mean - 1.96 * sd + half)
    )


def test_fewer_than_two_pairs_have_no_limits():
    assert limits_of_agreement(np.array([1.0])) is None
    assert limits_of_agreement(np.array([])) is None


def test_equal_results_have_limits_of_zero():
    found = limits_of_agreement(np.zeros(5))
    assert (found.lower.low, found.bias.value, found.upper.high) == (0, 0, 0)


def test_dice_of_empty_regions_is_unknown():
    assert dice(0, 0, 0) is None
    assert dice(3, 4, 6) == 0.6
    assert dice(0, 4, 0) == 0


def test_relative_difference_needs_a_first_value():
    assert relative_difference(2.0, 3.0) == 0.5
    assert relative_difference(0.0, 3.0) is None


def test_percent_of_the_mean_leaves_out_slides_without_tumor():
    found = percent_of_mean(np.array([0.0, 1.0, 0.0]), np.array([0.0, 3.0, 2.0]))
    assert found.tolist() == [100.0, 200.0]
