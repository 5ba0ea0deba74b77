"""Plots as PNG bytes, drawn without a window and without matplotlib's global state."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.metrics.calibration import Calibration
from noctile.pipeline.models.card import ClassInfo

INK, SOFT, LINE, ACCENT = "#1f2933", "#5b6770", "#d5dade", "#b3243a"
"""Colours of text, of lines in the background, of axes, and of what matters, as in the pages."""

_DPI = 144
_DICE: Final = "val_dice_"
_MANY = 8
"""Number of classes from which lines are thin and numbers small."""


def plot_curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Plot the learning curves of a training: losses and validation Dice, the best epoch marked.

    Args:
        history: a row for each epoch with epoch, train_loss, val_loss, val_dice_mean and
            val_dice_<class>; NaN where there is no figure.

    Returns:
        A PNG.
    """
    epochs = [row["epoch"] for row in history]
    figure, (losses, dice) = new_figure(11, 4.2, 2)
    marker = "o" if len(epochs) == 1 else ""
    for axes, title in ((losses, "Loss"), (dice, "Validation Dice")):
        axes.set(title=title, xlabel="epoch", xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.plot(
        epochs, _column(history, "train_loss"), marker=marker, color=SOFT, lw=1.8, label="training"
    )
    dice.set_ylim(0, 1)
    mean = _column(history, f"{_DICE}mean")
    if np.isfinite(mean).any():
        best = epochs[int(np.nanargmax(mean))]
        losses.plot(
            epochs,
            _column(history, "val_loss"),
            marker=marker,
            color=ACCENT,
            lw=1.8,
            label="validation",
        )
        _plot_dice(dice, history, marker)
        for axes in (losses, dice):
            axes.axvline(best, color=INK, lw=1, ls="--", label=f"best epoch ({best:g})")
        columns, size = (1, 8) if len(history[0]) < _MANY + 7 else (2, 7)
        dice.legend(
            frameon=False,
            fontsize=size,
            ncols=columns,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
        )
    else:
        dice.text(
            0.5, 0.5, "no validation regions", transform=dice.transAxes, ha="center", color=SOFT
        )
    losses.legend(frameon=False, fontsize=8)
    return to_png(figure)


def plot_confusion(confusion: Int64, classes: Sequence[ClassInfo]) -> bytes:
    """Plot a confusion matrix with shares of the truth in each row.

    A class that is not in the truth has an empty row.

    Args:
        confusion: int64 ``[n, n]`` pixels, rows truth, columns prediction.
        classes: classes of the rows and columns.

    Returns:
        A PNG.
    """
    n = len(classes)
    support = confusion.sum(axis=1, keepdims=True)
    shares = np.where(support > 0, confusion / np.maximum(support, 1), np.nan)
    side = max(3.2, 0.42 * n)
    figure, (axes,) = new_figure(side + 2.4, side + 1.6, 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_facecolor("#f0f0f0")
    names = [info.name for info in classes]
    axes.set_xticks(
        range(n),
        names,
        rotation=45 if n < _MANY else 90,
        ha="right" if n < _MANY else "center",
        fontsize=8,
    )
    axes.set_yticks(range(n), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=1.5 if n < _MANY else 0.6)
    axes.tick_params(which="both", length=0)
    size = 13 if n < 4 else 9 if n < _MANY else 6
    for row, column in zip(*np.nonzero(shares >= (0 if n < _MANY else 0.005)), strict=True):
        share = shares[row, column]
        text = f"{100 * share:.1f}" if n < _MANY else f"{100 * share:.0f}"
        color = "white" if share > 0.6 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.04, pad=0.03, format=lambda share, _: f"{100 * share:.0f} %"
    )
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axes.set_title("Share of the truth (%)")
    return to_png(figure)


def plot_reliability(calibration: Calibration) -> bytes:
    """Plot accuracy against confidence, and below it the share of pixels in each bin.

    Returns:
        A PNG.
    """
    n = len(calibration.pixels)
    centres = (np.arange(n) + 0.5) / n
    figure, (upper, lower) = new_figure(5, 5.4, 2, rows=2, heights=(3, 1))
    upper.bar(
        centres,
        np.nan_to_num(calibration.accuracy),
        0.92 / n,
        color="#7ba7cc",
        label="share that is right",
    )
    upper.plot(
        calibration.confidence,
        calibration.accuracy,
        "o",
        color=INK,
        ms=3.5,
        label="at the bin's mean confidence",
    )
    upper.plot([0, 1], [0, 1], "--", color=ACCENT, lw=1.2, label="perfect calibration")
    upper.set(
        title=f"Expected calibration error {100 * calibration.ece:.1f} %",
        ylabel="accuracy",
        ylim=(0, 1),
    )
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    lower.bar(centres, calibration.pixels / max(1, calibration.pixels.sum()), 0.92 / n, color=SOFT)
    lower.set(xlabel="confidence", ylabel="share of pixels")
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
    return to_png(figure)


def new_figure(
    width_in: float,
    height_in: float,
    panels: int,
    rows: int = 1,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, Sequence[Axes]]:
    """Make a figure in the style of the pages.

    Args:
        width_in: width of the figure (inches).
        height_in: height of the figure (inches).
        panels: number of panels.
        rows: number of rows of panels.
        heights: relative height of each row; None for equal ones.

    Returns:
        the figure, and its panels.
    """
    figure = Figure(
        figsize=(width_in, height_in),
        dpi=_DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08),
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, panels // rows, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(LINE)
        axes.tick_params(colors=INK, labelsize=8)
        axes.title.set(size=11, color=INK)
    return figure, list(grid.flat)


def _column(history: Sequence[Mapping[str, float]], name: str) -> Float64:
    return np.array([row.get(name, math.nan) for row in history], float)


def _plot_dice(axes: Axes, history: Sequence[Mapping[str, float]], marker: str) -> None:
    """Plot a line for each class, and a thick one for their mean."""
    epochs = _column(history, "epoch")
    classes = [name for name in history[0] if name.startswith(_DICE) and name != f"{_DICE}mean"]
    colors = mpl.colormaps["tab20"](np.arange(20))
    width = 1.4 if len(classes) < _MANY else 0.8
    for k, name in enumerate(classes):
        line = {
            "color": colors[k % 20],
            "ls": "-" if k < 20 else ":",
            "lw": width,
            "marker": marker,
        }
        axes.plot(epochs, _column(history, name), label=name.removeprefix(_DICE), **line)
    axes.plot(
        epochs, _column(history, f"{_DICE}mean"), marker=marker, color=INK, lw=2.4, label="mean"
    )


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
