"""Page of a folder of results: one HTML file, with small pictures of the slides beside it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.flags import flag_meaning
from noctile.pipeline.report.attention import RULE, queue_of, remedy
from noctile.pipeline.report.charts import Chart, bar_chart, histogram
from noctile.pipeline.report.template import figure, load_template
from noctile.pipeline.report.usage import RunUsage, time_axis, usage_charts

Row = Mapping[str, Any]

MARK = '<meta name="generator" content="noctile report">'
"""Line by which a page that Noctile has written is recognised."""

_SHOWN = 200
"""Most slides that the queue lists, and most regions of interest; the tables have all."""

_PACE_BINS = 24


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Record of one run, as texts and numbers for the page.

    Attributes:
        start: start of the run.
        end: its end; "" if it is at work or was killed.
        done: slides done.
        failed: slides that failed.
        skipped: slides that were skipped.
        model: name of the model.
        device: device of the run.
        host: name of the machine.
        stopped: reason why it was stopped; "" if it was not.
    """

    start: str
    end: str
    done: int
    failed: int
    skipped: int
    model: str
    device: str
    host: str
    stopped: str


@dataclass(frozen=True, slots=True)
class Report:
    """Content of the page.

    Attributes:
        name: name of the folder of results.
        rows: row of each slide, as in the tables.
        runs: records of the runs, the last one first.
        finished_h: float64 ``[n]``, end of each slide of the last run (h after the first event).
        at_work: True if a run is at work.
        made: time of the page, UTC.
        usage: samples of the last run that predicted tiles; None without one.
        regions: row of each region of interest, as in its table.
    """

    name: str
    rows: Sequence[Row]
    runs: Sequence[RunFacts]
    finished_h: Float64
    at_work: bool
    made: datetime
    usage: RunUsage | None = None
    regions: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """Column of the table of slides; ``digits`` behind the point, None for text."""

    name: str
    title: str
    digits: int | None = None

    @property
    def number(self) -> bool:
        return self.digits is not None


_COLUMNS = (
    _Shown("slide_id", "slide"),
    _Shown("status", "status"),
    _Shown("qc_flags", "flags"),
    _Shown("group", "group"),
    _Shown("review_status", "review"),
    _Shown("tissue_area_mm2", "tissue, mm²", 2),
    _Shown("tumor_area_mm2", "tumor, mm²", 3),
    _Shown("tumor_fraction_of_tissue", "tumor fraction", 3),
    _Shown("tumor_foci", "tumor foci", 0),
    _Shown("mean_confidence", "confidence", 3),
)
_IF_FILLED = ("group", "review_status")
"""Columns that are shown if at least one slide has a value."""

_ONE_VALUE = (("status", "status"), ("group", "group"), ("review", "review_status"))
"""Filters that have a list: name and column, of those with one value for each slide."""

_RANGES = (
    ("tissue", "tissue_area_mm2", "Tissue, mm²"),
    ("tumor", "tumor_area_mm2", "Tumor, mm²"),
    ("confidence", "mean_confidence", "Confidence, 0 to 1"),
)
"""Filters from and to: name, column and title."""

_DISTRIBUTIONS = (
    ("tissue_area_mm2", "Tissue area", "tissue area (mm²)", None),
    ("tumor_area_mm2", "Tumor area", "tumor area (mm²)", None),
    ("tumor_fraction_of_tissue", "Tumor fraction", "tumor area / tissue area", 1.0),
    ("mean_confidence", "Confidence", "mean confidence (0 to 1)", 1.0),
    (
        "seam_disagreement",
        "Seams",
        "pixels along seams that two tiles label differently (0 to 1)",
        None,
    ),
    ("seconds", "Time", "time of the slide's steps (s)", None),
)


def report_page(report: Report, thumbnails: Collection[str]) -> str:
    """Make the page of a folder of results.

    Args:
        report: content of the page.
        thumbnails: ids of the slides that have a picture ``index_files/<slide_id>.jpg``.

    Returns:
        The page as HTML.
    """
    rows = report.rows
    failed = [row for row in rows if row["status"] == "failed"]
    empty = {name for name in _IF_FILLED if not any(row.get(name) for row in rows)}
    not_done = Counter((r["status"], r["reason"] or "") for r in rows if r["status"] != "done")
    page = load_template("index.html", figure=figure, remedy=remedy, meaning=flag_meaning).render(
        report=report,
        rows=rows,
        counts=Counter(row["status"] for row in rows),
        failed=failed,
        reasons=sorted(not_done.items()),
        queue=queue_of(rows),
        shown=_SHOWN,
        rule=RULE,
        reviewed="review_status" not in empty,
        totals={kind: _sum(rows, f"{kind}_area_mm2") for kind in ("tissue", "tumor")},
        columns=[column for column in _COLUMNS if column.name not in empty],
        choices=_choices(rows),
        ranges=_RANGES,
        charts=_charts(rows),
        pace=_pace(report.finished_h),
        usage=usage_charts(report.usage) if report.usage else [],
        thumbnails=thumbnails,
        confined=Counter(row["slide_id"] for row in report.regions),
    )
    return str(page)


def _choices(rows: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Each filter that has a list: its name, its column, and the values of the column, sorted."""
    flags = {flag for row in rows for flag in row.get("qc_flags") or ()}
    found = [(name, column, {row.get(column) for row in rows}) for name, column in _ONE_VALUE]
    found.insert(1, ("flag", "qc_flags", flags))
    return [(n, column, sorted(str(v) for v in values if v)) for n, column, values in found]


def _charts(rows: Sequence[Row]) -> list[Chart]:
    """Distributions of the figures that at least two slides have."""
    charts = []
    for column, title, label, highest in _DISTRIBUTIONS:
        values = _known(rows, column)
        if len(values) > 1:
            charts.append(histogram(title, label, values, highest))
    return charts


def _pace(finished_h: Float64) -> Chart | None:
    """Slides per hour over the last run; None for fewer than two slides."""
    if len(finished_h) < 2 or finished_h.max() <= 0:
        return None
    unit, length_s = time_axis(3600 * float(finished_h.max()))
    edges = np.linspace(0, float(finished_h.max()), _PACE_BINS + 1)
    counts, _ = np.histogram(finished_h, edges)
    scale = 3600 / length_s
    facts = f"{len(finished_h)} slides done in {finished_h.max() * scale:.3g} {unit}"
    labels = f"time since the run began ({unit})", "slides per hour"
    return bar_chart("Slides of the last run", labels, edges * scale, counts / edges[1], facts)


def _known(rows: Sequence[Row], column: str) -> Float64:
    """Figures of a column, without those that are missing."""
    values = (row.get(column) for row in rows)
    known = [value for value in values if isinstance(value, int | float) and isfinite(value)]
    return np.array(known, np.float64)


def _sum(rows: Sequence[Row], column: str) -> float:
    return float(_known(rows, column).sum())
