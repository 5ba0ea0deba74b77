"""Charts of a run over time."""

import numpy as np
import pytest

from noctile.pipeline.report.charts import BOTTOM, TOP
from noctile.pipeline.report.usage import RunUsage, time_axis, usage_charts

NONE = np.full(4, np.nan)


def usage(gpu=NONE, cpu=NONE, device="cuda") -> RunUsage:
    seconds, tiles = np.array([10.0, 20, 30, 40]), np.array([0.0, 100, 400, 400])
    return RunUsage("then", seconds, tiles, np.array(gpu), np.array(cpu), 4, device)


def heights(chart) -> list[float]:
    """Heights of the bars in units of the axis; the axis begins at 0."""
    top = float(chart.y_ticks[-1].text)
    return [round(bar.height * top / (BOTTOM - TOP), 1) for bar in chart.bars]


def test_tiles_per_second_is_the_growth_of_the_total():
    (chart,) = usage_charts(usage())
    assert (chart.x_label, chart.y_label) == ("time since the run began (s)", "tiles per second")
    assert heights(chart) == pytest.approx([10, 30], abs=0.2)  # bars of height 0 are not drawn
    assert chart.x_ticks[-1].text == "40"


def test_busy_shares_are_percent_on_an_axis_to_100():
    charts = usage_charts(usage([0.25, 1.0, np.nan, 0.5], [10.0, 50, 50, 70]))
    by_title = {chart.y_label: chart for chart in charts}
    assert set(by_title) == {"tiles per second", "GPU busy (%)", "CPU busy (%)"}
    assert heights(by_title["GPU busy (%)"]) == pytest.approx([25, 100, 50], abs=0.5)
    assert heights(by_title["CPU busy (%)"]) == pytest.approx([25, 100, 50], abs=0.5)
    assert by_title["GPU busy (%)"].y_ticks[-1].text == "100"
    assert by_title["CPU busy (%)"].title == "CPU busy, mean of 4 cores"


def test_many_samples_are_joined_and_the_mean_stays():
    rng = np.random.default_rng(0)
    seconds, shares = np.arange(1.0, 201), rng.random(200)
    run = RunUsage("", seconds, seconds, shares, np.full(200, np.nan), 1, "cuda")
    chart = usage_charts(run)[1]
    assert len(chart.bars) == 48
    assert np.mean(heights(chart)) == pytest.approx(100 * shares.mean(), abs=0.5)


def test_a_run_without_a_measured_gpu_says_so():
    assert usage(device="cpu").note.startswith("No GPU was there")
    assert "did not say" in usage().note
    assert usage([0.0, 0, 0, 0]).note == ""


def test_the_unit_of_time_fits_the_duration():
    assert [time_axis(s)[0] for s in (60, 119, 120, 7199, 7200)] == ["s", "s", "min", "min", "h"]
