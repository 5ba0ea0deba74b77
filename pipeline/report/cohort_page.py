"""Page of a cohort: one HTML file that needs no other file, no network and no script."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

from noctile.pipeline.audit.ppi import LEAST_ANNOTATED
from noctile.pipeline.patients.analysis import (
    Analysis,
    Finding,
    GroupDescription,
    by_measure,
)
from noctile.pipeline.patients.annotated import Annotated, why_unused
from noctile.pipeline.patients.audited import HALF_WIDTH, Audited
from noctile.pipeline.patients.conclusions import Conclusions, p_text
from noctile.pipeline.patients.flow import Exclusion, counted
from noctile.pipeline.patients.measures import HEADLINE, Measure, measure_of
from noctile.pipeline.patients.methods import Item
from noctile.pipeline.patients.survival import SurvivalTest
from noctile.pipeline.report.cohort_plots import Picture
from noctile.pipeline.report.template import figure, load_template
from noctile.pipeline.statistics.estimate import Estimate

_MOST_NAMED: Final = 50
"""Most exclusions and influences that the page lists; the tables have all."""


@dataclass(frozen=True, slots=True, eq=False)
class CohortReport:
    """Content of the page.

    Attributes:
        name: name of the folder of results.
        analysis: the analysis.
        conclusions: question, answers and limits.
        flow_svg: flow diagram.
        pictures: plots.
        methods: paragraphs for a methods section.
        checklist: items of reporting guidelines.
        clinical: name of the clinical table; "" without one.
        not_measured: reason why a measure is missing, by its name.
        audit: areas corrected by an audit; None without one.
        annotated: shares by patients who are annotated in full; None without annotations.
    """

    name: str
    analysis: Analysis
    conclusions: Conclusions
    flow_svg: str
    pictures: Sequence[Picture]
    methods: Sequence[str]
    checklist: Sequence[Item]
    clinical: str
    not_measured: Mapping[str, str]
    audit: Audited | None = None
    annotated: Annotated | None = None


def cohort_page(report: CohortReport) -> str:
    """Make the page of a cohort.

    Returns:
        The page as HTML.
    """
    analysis = report.analysis
    filters: dict[str, Callable[..., Any]] = {
        "figure": figure,
        "estimate": _estimate,
        "median": _median,
        "p": _p,
        "title": lambda name: measure_of(name).title,
        "counted": counted,
        "why_unused": why_unused,
        "encoded": lambda content: base64.b64encode(content).decode("ascii"),
    }
    return load_template("cohort.html", **filters).render(
        report=report,
        analysis=analysis,
        headline=_headline(analysis),
        table=_table_one(analysis),
        pairs=_pairs(analysis),
        survival_pairs=_survival_pairs(analysis),
        changing=[i for i in analysis.influences if i.changes],
        doubtful=analysis.influences[:_MOST_NAMED],
        exclusions=_named(analysis.exclusions),
        most=_MOST_NAMED,
        least=LEAST_ANNOTATED,
        further_at=f"{100 * HALF_WIDTH:g}",
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """Exclusions of one reason: the first ones, and the number of all."""

    level: str
    reason: str
    rows: Sequence[Exclusion]
    count: int


def _named(exclusions: Sequence[Exclusion]) -> list[_Named]:
    """Exclusions by level and reason."""
    found: dict[tuple[str, str], list[Exclusion]] = {}
    for row in exclusions:
        found.setdefault((row.level, row.reason), []).append(row)
    return [_Named(*key, rows[:_MOST_NAMED], len(rows)) for key, rows in found.items()]


def _headline(analysis: Analysis) -> GroupDescription | None:
    """Description of the headline measure of all patients; None if no patient has it."""
    rows = (r for r in analysis.descriptions if r.group is None and r.measure == HEADLINE)
    return next(rows, None)


@dataclass(frozen=True, slots=True)
class _Line:
    """Line of the table of measures: its descriptions, groups in order, then all patients."""

    measure: Measure
    rows: Sequence[GroupDescription]

    @property
    def digits(self) -> int:
        """Digits behind the point of its figures."""
        if self.measure.unit == "count":
            return 1
        return 2 if self.rows[-1].description.median >= 1 else 3


def _table_one(analysis: Analysis) -> list[_Line]:
    rows: dict[str, list[GroupDescription]] = {}
    for row in analysis.descriptions:
        rows.setdefault(row.measure, []).append(row)
    return [_Line(measure_of(name), found) for name, found in rows.items()]


def _pairs(analysis: Analysis) -> list[tuple[Finding, Finding | None]]:
    """Each finding beside that without flagged slides, or None."""
    calm = by_measure(analysis.without_flagged)
    return [(f, calm.get(f.measure)) for f in analysis.findings]


def _survival_pairs(analysis: Analysis) -> list[tuple[SurvivalTest, SurvivalTest | None]]:
    """Each test of survival beside that without flagged slides, or None."""
    calm = {test.about: test for test in analysis.survival_without_flagged}
    tests = analysis.survival.tests if analysis.survival else ()
    return [(test, calm.get(test.about)) for test in tests]


def _estimate(found: Estimate | None, digits: int = 2) -> str:
    if found is None or isnan(found.value):
        return "–"
    value = figure(found.value, digits)
    if isnan(found.low) or isnan(found.high):
        return value
    return f"{value} ({figure(found.low, digits)} to {figure(found.high, digits)})"


def _median(found: Estimate) -> str:
    """Median time with its interval; each is "not reached" where a curve stays above one half."""
    value, low, high = (
        "not reached" if isnan(end) else figure(end, 1)
        for end in (found.value, found.low, found.high)
    )
    return value if isnan(found.low) else f"{value} ({low} to {high})"


def _p(value: float) -> str:
    return "–" if isnan(value) else p_text(value).removeprefix("p ").removeprefix("= ")
