"""Plots of the agreement of two results: Bland-Altman, scatter, and histogram of Dice."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from noctile.pipeline.agreement import Limits, limits_of_agreement
from noctile.pipeline.arrays import Float64
from noctile.pipeline.report.plots import ACCENT, LINE, SOFT, new_figure, to_png
from noctile.pipeline.statistics.estimate import Estimate

_BLUE = "#0072b2"
_LEAST = 1e-9
"""Smallest difference that is one (mm2, or %): less is the rounding of sums."""


def plot_bland_altman(mean: Float64, difference: Float64, unit: str, mean_unit: str) -> bytes:
    """Plot differences against means, with bias, limits of agreement and their intervals.

    If all slides are equal, the plot says so, and has no limits.

    Args:
        mean: float64 ``[n]``, mean of both results.
        difference: float64 ``[n]``, second result minus the first.
        unit: unit of the differences.
        mean_unit: unit of the means.

    Returns:
        A PNG.
    """
    figure, (axes,) = new_figure(6.0, 5.2, 1)
    equal = len(difference) > 0 and float(np.abs(difference).max()) < _LEAST
    limits = None if equal else limits_of_agreement(difference)
    axes.axhline(0, color=LINE, lw=1)
    if limits:
        _draw_limits(axes, limits)
    _draw_slides(axes, mean, np.zeros_like(difference) if equal else difference)
    axes.set(
        xlabel=f"tumor area, mean of a and b ({mean_unit})", ylabel=f"difference b - a ({unit})"
    )
    axes.set_title(f"Bland-Altman, {len(difference)} slides")
    axes.margins(x=0.05, y=0.12)
    if equal:
        axes.set(ylim=(-1, 1), yticks=[0])
        axes.text(0.5, 0.6, "no difference", transform=axes.transAxes, ha="center", color=SOFT)
    return to_png(figure)


def _draw_slides(axes: Axes, x: Float64, y: Float64) -> None:
    """Draw a point for each slide; darker where points lie on each other."""
    axes.scatter(x, y, s=22, alpha=0.65, color=_BLUE, edgecolors="white", linewidths=0.4)


def _draw_limits(axes: Axes, limits: Limits) -> None:
    """Draw bias and limits as lines, and their intervals as bands, with a legend below."""
    lines = (
        ("upper limit", limits.upper, SOFT, "--"),
        ("bias", limits.bias, ACCENT, "-"),
        ("lower limit", limits.lower, SOFT, ":"),
    )
    for name, interval, color, style in lines:
        axes.axhspan(interval.low, interval.high, color=color, alpha=0.12, lw=0)
        label = f"{name} {_short(interval)}"
        axes.axhline(interval.value, color=color, lw=1.4, ls=style, label=label)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _short(interval: Estimate) -> str:
    return f"{interval.value:.3g} (95 %: {interval.low:.3g} to {interval.high:.3g})"


def plot_scatter(a: Float64, b: Float64, unit: str) -> bytes:
    """Plot the second result against the first, with the line of equality.

    Args:
        a: float64 ``[n]``, first result.
        b: float64 ``[n]``, second result.
        unit: unit of both.

    Returns:
        A PNG.
    """
    figure, (axes,) = new_figure(4.6, 4.4, 1)
    most = max(float(np.concatenate((a, b)).max(initial=0.0)), 1e-3) * 1.05
    axes.plot([0, most], [0, most], color=SOFT, lw=1, ls="--", label="equal")
    _draw_slides(axes, a, b)
    axes.set(xlim=(-0.02 * most, most), ylim=(-0.02 * most, most), aspect="equal")
    axes.set(xlabel=f"tumor area in a ({unit})", ylabel=f"tumor area in b ({unit})")
    axes.set_title("Tumor area, b against a")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return to_png(figure)


def plot_dice(dice: Float64) -> bytes:
    """Plot a histogram of Dice, 0..1, in bins of 0.05.

    Args:
        dice: float64 ``[n]``, Dice of the tumor of each slide that has some.

    Returns:
        A PNG.
    """
    figure, (axes,) = new_figure(4.6, 4.4, 1)
    axes.hist(dice, bins=20, range=(0, 1), color="#7ba7cc", edgecolor="white")
    axes.set(xlim=(0, 1), xlabel="Dice of the tumor", ylabel="slides")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"Dice of the tumor, {len(dice)} slides with tumor")
    return to_png(figure)
