"""Histograms as plain numbers, from which the template of a page draws SVG with axes and units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64

LEFT, RIGHT, TOP, BOTTOM = 56, 392, 12, 156
"""Edges of the plot in a picture of 400 x 200 px; the template has the same."""

_BINS, _STEPS = 20, 5


@dataclass(frozen=True, slots=True)
class Tick:
    """Number at an axis.

    Attributes:
        at: position (px).
        text: the number.
    """

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Bar of a histogram, in px, with the text that a mouse shows."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Histogram, ready to draw.

    Attributes:
        title: title above it.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        description: sentence for readers who cannot see it.
        bars: bars from left to right, without empty ones.
        x_ticks: numbers of the horizontal axis.
        y_ticks: numbers of the vertical axis.
    """

    title: str
    x_label: str
    y_label: str
    description: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def histogram(title: str, x_label: str, values: Float64, highest: float | None = None) -> Chart:
    """Count the slides in equal ranges of a figure.

    Args:
        title: title above the chart.
        x_label: name and unit of the figure.
        values: float64 ``[n]``, finite, n >= 1.
        highest: end of the axis; None for the next round number.
    """
    top = highest or round_up(float(values.max()))
    edges = np.linspace(min(0.0, float(values.min())), top, _BINS + 1)
    counts, _ = np.histogram(values, edges)
    spread = f"{values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
    return bar_chart(
        title,
        (x_label, "slides"),
        edges,
        counts.astype(np.float64),
        f"{len(values)} slides: {spread}",
    )


def bar_chart(
    title: str,
    labels: tuple[str, str],
    edges: Float64,
    heights: Float64,
    facts: str,
    highest: float | None = None,
) -> Chart:
    """Lay out bars over ranges that touch.

    Args:
        title: title above the chart.
        labels: names and units of the horizontal and of the vertical axis.
        edges: float64 ``[n + 1]``, ends of the ranges, ascending.
        heights: float64 ``[n]``, heights of the bars, not negative.
        facts: figures for the description.
        highest: end of the vertical axis; None for the next round number.
    """
    first, last = float(edges[0]), float(edges[-1])
    highest = highest or round_up(float(heights.max()))
    x_scale, y_scale = (RIGHT - LEFT) / (last - first), (BOTTOM - TOP) / highest
    bars = tuple(
        Bar(
            round(LEFT + (low - first) * x_scale, 1),
            round(BOTTOM - height * y_scale, 1),
            round(max(1.0, (high - low) * x_scale - 1), 1),
            round(height * y_scale, 1),
            f"{low:.4g} to {high:.4g}: {height:.4g}",
        )
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True)
        if height > 0
    )
    x_ticks = tuple(Tick(round(LEFT + (v - first) * x_scale, 1), f"{v:.4g}") for v in _ticks(last))
    counts = bool((heights == heights.astype(int)).all())
    y_ticks = tuple(
        Tick(round(BOTTOM - v * y_scale, 1), f"{v:.4g}")
        for v in _ticks(highest)
        if not counts or v.is_integer()
    )
    return Chart(title, *labels, f"{title}. {facts}", bars, x_ticks, y_ticks)


def round_up(value: float) -> float:
    """Next number of the form 1, 2, 2.5 or 5 x 10^n; 1 for 0 and less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def _ticks(highest: float) -> Sequence[float]:
    """Multiples of a round step from 0 to the end of an axis, at most six."""
    step = round_up(highest / _STEPS)
    return [round(step * k, 12) for k in range(int(highest / step * (1 + 1e-9)) + 1)]
