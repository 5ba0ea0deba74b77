"""Choice of the plots of a cohort."""

from collections.abc import Iterator

import numpy as np

from noctile.pipeline.patients.analysis import Analysis
from noctile.pipeline.patients.measures import measure_of
from noctile.pipeline.patients.question import number_of, sorted_groups
from noctile.pipeline.report.cohort_plots import (
    Picture,
    plot_effects,
    plot_groups,
    plot_number,
    plot_survival,
)


def cohort_pictures(analysis: Analysis) -> list[Picture]:
    """Draw a plot for each measure, the survival curves, and the effect sizes."""
    return [*_survival(analysis), *_effects(analysis), *_measures(analysis)]


def _measures(analysis: Analysis) -> Iterator[Picture]:
    kind, by = analysis.question.kind, analysis.question.by
    groups = np.array(analysis.groups, str)
    for measure in analysis.values.measures:
        values = analysis.values.values[measure.name]
        there = np.isfinite(values)
        if kind == "number":
            numbers = np.array([number_of(cell) for cell in groups[there]], np.float64)
            yield plot_number(measure, numbers, values[there], by)
        elif kind == "groups":
            names = sorted_groups(analysis.groups)
            yield plot_groups(measure, {n: values[there & (groups == n)] for n in names}, by)
        else:
            yield plot_groups(measure, {"all patients": values[there]}, "")


def _survival(analysis: Analysis) -> Iterator[Picture]:
    found = analysis.survival
    for k, curves in enumerate(found.curves if found else ()):
        name = f"survival_{curves.measure}_{k}" if curves.measure else "survival"
        yield plot_survival(name, curves, analysis.question.time)


def _effects(analysis: Analysis) -> Iterator[Picture]:
    """Effect of each measure, if all have one of the same kind and direction."""
    first = [finding.effects[0] for finding in analysis.findings]
    names = {(e.name, e.a, e.b) for e in first}
    if len(names) != 1 or len(first) < 2:
        return
    ((name, a, b),) = names
    label = f"{name} of {a} against {b}" if a else name
    titles = [measure_of(finding.measure).title for finding in analysis.findings]
    rows = list(zip(titles, (e.estimate for e in first), strict=True))
    yield plot_effects(rows, label, 0.0)
