"""Plots of a cohort: measures by group or against a number, survival curves, effect sizes."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.patients.measures import Measure
from noctile.pipeline.patients.survival import Curves
from noctile.pipeline.report.plots import ACCENT, INK, LINE, SOFT, new_figure, to_png
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.untrusted import printable

COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Colours that readers with colour blindness tell apart (Okabe and Ito, Color Universal Design,
2008)."""

STYLES: Final = ("-", "--", "-.", ":")

_MANY_POINTS: Final = 300
"""Number of points from which an SVG has them as a picture."""

_MANY_GROUPS: Final = 6
_LABEL_CHARS: Final = 18
_SALT: Final = "noctile"


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot as files.

    Attributes:
        name: name of the files, without their suffix.
        title: title for a reader.
        description: the plot in words, for readers who cannot see it.
        png: PNG.
        svg: SVG.
    """

    name: str
    title: str
    description: str
    png: bytes
    svg: bytes


def plot_groups(measure: Measure, values: Mapping[str, Float64], by: str) -> Picture:
    """Plot a point for each patient, with median and quartiles of each group.

    Args:
        measure: the measure.
        values: finite values of each group, by its name.
        by: column of the groups.
    """
    with _plain_text():
        figure, (axes,) = new_figure(max(4.6, 1.1 * len(values) + 1.6), 4.0, 1)
        random = np.random.default_rng(0)
        for k, part in enumerate(values.values()):
            x = k + random.uniform(-0.16, 0.16, len(part))
            _points(axes, x, part, COLORS[k % len(COLORS)])
        boxes = [part for part in values.values() if len(part)]
        places = [k for k, part in enumerate(values.values()) if len(part)]
        ink = {"color": INK, "linewidth": 1.2}
        axes.boxplot(
            boxes,
            positions=places,
            widths=0.5,
            showfliers=False,
            boxprops=ink,
            whiskerprops=ink,
            capprops=ink,
            medianprops={"color": ACCENT, "linewidth": 2},
        )
        labels = [f"{_label(name)}\nn = {len(part)}" for name, part in values.items()]
        axes.set_xticks(range(len(values)), labels, fontsize=8)
        if len(labels) > _MANY_GROUPS:
            axes.tick_params(axis="x", rotation=60)
        axes.set(xlabel=_label(by, 60), ylabel=_axis(measure), xlim=(-0.6, len(values) - 0.4))
        _limit(axes, measure)
        axes.set_title(measure.title)
        text = "; ".join(
            f"{printable(name)}: {len(part)} patients"
            + (f", median {np.median(part):.3g}" if len(part) else "")
            for name, part in values.items()
        )
        about = f"{measure.title} by {printable(by)}. {text}"
        return _picture(figure, measure.name, f"{measure.title} by {printable(by)}", about)


def plot_number(measure: Measure, x: Float64, y: Float64, by: str) -> Picture:
    """Plot a point for each patient: the measure against a number.

    Args:
        measure: the measure.
        x: float64 ``[n]``, numbers of the column.
        y: float64 ``[n]``, values of the measure.
        by: the column.
    """
    with _plain_text():
        figure, (axes,) = new_figure(4.8, 4.0, 1)
        _points(axes, x, y, COLORS[0])
        axes.set(xlabel=_label(by, 60), ylabel=_axis(measure))
        _limit(axes, measure)
        axes.set_title(measure.title)
        about = f"{measure.title} against {printable(by)}, {len(x)} patients"
        return _picture(figure, measure.name, f"{measure.title} and {printable(by)}", about)


def plot_survival(name: str, found: Curves, time: str) -> Picture:
    """Plot Kaplan-Meier curves with their intervals, and the numbers at risk below.

    A mark stands where a patient is censored, unless there are very many.

    Args:
        name: name of the files.
        found: curves by group.
        time: column of the times.
    """
    with _plain_text():
        below = 0.28 * len(found.curves) + 0.5
        figure, (axes, table) = new_figure(6.4, 3.8 + below, 2, rows=2, heights=(3.8, below))
        last = max(float(curve.time[-1]) for curve in found.curves.values()) or 1.0
        ticks = _ticks(last)
        for k, (group, curve) in enumerate(found.curves.items()):
            color, style = COLORS[k % len(COLORS)], STYLES[k % len(STYLES)]
            t = curve.time
            axes.step(
                t,
                curve.survival,
                ls=style,
                lw=1.8,
                label=_label(group, 40),
                where="post",
                color=color,
            )
            censored = curve.censored > 0
            if censored.sum() <= _MANY_POINTS:
                axes.plot(t[censored], curve.survival[censored], "|", color=color, ms=6)
            axes.fill_between(t, curve.low, curve.high, step="post", color=color, alpha=0.12, lw=0)
            y = len(found.curves) - 1 - k
            for tick in ticks:
                risk = int(_at_risk(curve.time, curve.at_risk, tick))
                table.text(tick, y, f"{risk}", ha="center", va="center", fontsize=8, color=color)
        axes.set(ylim=(0, 1.03), xlim=(-0.02 * last, last * 1.02), ylabel="survival (0 to 1)")
        axes.set_xticks(ticks)
        axes.set_xlabel(_label(time, 60))
        axes.set_title(f"Survival by {_label(found.subject, 60)}" if found.title else "Survival")
        axes.legend(frameon=False, fontsize=8, loc="best")
        _risk_axes(table, found, axes)
        title = f"Survival by {printable(found.subject)}" if found.title else "Survival"
        text = "; ".join(
            f"{printable(g)}: {c.at_risk[0]} patients" for g, c in found.curves.items()
        )
        return _picture(figure, name, title, f"Kaplan-Meier curves. {title}. {text}")


def plot_effects(rows: Sequence[tuple[str, Estimate]], label: str, neutral: float) -> Picture:
    """Plot effect sizes with their intervals, one below the other.

    Args:
        rows: name and effect of each measure.
        label: name of the effect.
        neutral: value of no effect.
    """
    with _plain_text():
        figure, (axes,) = new_figure(6.4, 0.36 * len(rows) + 1.3, 1)
        axes.axvline(neutral, color=LINE, lw=1.2)
        for y, (_, effect) in enumerate(reversed(rows)):
            if np.isfinite(effect.low) and np.isfinite(effect.high):
                axes.plot([effect.low, effect.high], [y, y], color=SOFT, lw=1.6)
            axes.plot(effect.value, y, "o", color=ACCENT, ms=5)
        names = [_label(name, 44) for name, _ in reversed(rows)]
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set(xlabel=_label(label, 80), ylim=(-0.6, len(rows) - 0.4))
        text = "; ".join(f"{n} {e.value:.2f} ({e.low:.2f} to {e.high:.2f})" for n, e in rows)
        title = printable(label)
        return _picture(figure, "effects", title, f"{title}, with 95 % intervals: {text}")


@contextmanager
def _plain_text() -> Iterator[None]:
    """Settings under which names of users are no formulas, and the same SVG has the same bytes."""
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": _SALT}):
        yield


def _picture(figure: Figure, name: str, title: str, description: str) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font does not have is a box
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # the layout stands; a second search takes as long as all
        return Picture(name, title, description, to_png(figure), file.getvalue())


def _points(axes: Axes, x: Float64, y: Float64, color: str) -> None:
    many = len(x) > _MANY_POINTS
    axes.scatter(x, y, s=16, alpha=0.55, color=color, edgecolors="none", rasterized=many)


def _limit(axes: Axes, measure: Measure) -> None:
    """Begin the axis of areas, counts and shares at 0."""
    top = axes.get_ylim()[1]
    axes.set_ylim(0, min(top, 1.03) if measure.unit == "0..1" else top)


def _axis(measure: Measure) -> str:
    unit = {"0..1": "0 to 1", "count": "number"}.get(measure.unit, measure.unit)
    return f"{measure.title.lower()} ({unit})"


def _label(text: str, most: int = _LABEL_CHARS) -> str:
    """Name of a user for an axis, in at most two lines."""
    lines = textwrap.wrap(printable(text), most, max_lines=2, placeholder="...")
    return "\n".join(lines)


def _ticks(last: float) -> Float64:
    rough = last / 6
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * (1 - 1e-9))
    return np.arange(0, last + step / 1e6, step)


def _at_risk(times: Float64, at_risk: Int64, tick: float) -> float:
    """Number of patients who are at risk just before a time."""
    later = np.flatnonzero(times >= tick)
    return float(at_risk[later[0]]) if len(later) else 0.0


def _risk_axes(table: Axes, found: Curves, axes: Axes) -> None:
    """Put the numbers at risk below the ticks of the curves."""
    table.sharex(axes)
    groups = list(reversed(found.curves))
    table.set_yticks(range(len(groups)), [_label(group, 24) for group in groups], fontsize=8)
    table.set_ylim(-0.6, len(groups) - 0.4)
    table.tick_params(length=0, labelbottom=False)
    table.spines[["left", "bottom"]].set_visible(False)
    table.set_title("patients at risk", fontsize=8, loc="left", color=SOFT)
