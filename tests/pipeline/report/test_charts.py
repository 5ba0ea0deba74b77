"""Histograms of a page."""

import numpy as np
import pytest

from noctile.pipeline.report.charts import BOTTOM, LEFT, RIGHT, TOP, bar_chart, histogram, round_up


@pytest.mark.parametrize(
    ("value", "rounded"), [(0, 1), (0.3, 0.5), (1, 1), (2.1, 2.5), (7, 10), (320, 500), (-1, 1)]
)
def test_axes_end_at_round_numbers(value, rounded):
    assert round_up(value) == pytest.approx(rounded)


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (107.3, ["0", "25", "50", "75", "100"]),
        (1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.25, ["0", "0.05", "0.1", "0.15", "0.2", "0.25"]),
    ],
)
def test_numbers_at_an_axis_are_round(last, ticks):
    chart = bar_chart("", ("x", "y"), np.array([0.0, last]), np.array([1.5]), "")
    assert [tick.text for tick in chart.x_ticks] == ticks


def test_every_slide_is_in_a_bar():
    chart = histogram("Area", "area (mm²)", np.array([0.0, 1.0, 1.0, 9.7]))
    scale = (BOTTOM - TOP) / float(chart.y_ticks[-1].text)
    assert sum(bar.height for bar in chart.bars) / scale == pytest.approx(4, abs=0.05)
    assert [chart.x_ticks[0].at, chart.x_ticks[-1].at] == [LEFT, RIGHT]
    assert (chart.x_ticks[-1].text, chart.x_label, chart.y_label) == ("10", "area (mm²)", "slides")
    assert chart.description == "Area. 4 slides: 0 to 9.7, median 1"


def test_equal_figures_have_one_bar():
    assert len(histogram("Area", "mm²", np.zeros(3)).bars) == 1


def test_bars_stay_within_the_axes():
    chart = bar_chart(
        "Pace", ("h", "slides per hour"), np.array([0.0, 1, 3]), np.array([5.0, 7]), ""
    )
    for bar in chart.bars:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= RIGHT
        assert bar.y >= TOP
        assert bar.y + bar.height == pytest.approx(BOTTOM, abs=0.2)
