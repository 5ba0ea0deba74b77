"""Tidy tables of a cohort: patients, groups, tests, influence, exclusions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import pyarrow as pa

from noctile.pipeline.columns import Column
from noctile.pipeline.patients.analysis import Analysis, Finding, Subset
from noctile.pipeline.patients.annotated import Annotated
from noctile.pipeline.patients.audited import Audited
from noctile.pipeline.patients.flow import Exclusion, why_excluded
from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.measures import MEASURES, measure_of
from noctile.pipeline.patients.question import Question, survival_of
from noctile.pipeline.patients.survival import Survival, SurvivalTest
from noctile.pipeline.patients.table_columns import (
    ANNOTATED,
    ANNOTATED_SLIDES,
    ANNOTATED_TESTS,
    AUDIT,
    AUDIT_TESTS,
    EXCLUSIONS,
    GROUPS,
    INFLUENCE,
    PATIENTS,
    SURVIVAL,
    TESTS,
)
from noctile.pipeline.patients.values import patient_values

Row = Sequence[Any]


def cohort_tables(
    joined: Joined,
    analysis: Analysis,
    audit: Audited | None = None,
    annotated: Annotated | None = None,
) -> Mapping[str, pa.Table]:
    """Make all tables, by name.

    Args:
        joined: patients of the cohort.
        analysis: the analysis.
        audit: areas corrected by an audit; None without one.
        annotated: shares by patients who are annotated in full; None without annotations.
    """
    powered = (
        {
            "annotated": _table(ANNOTATED, _annotated(annotated)),
            "annotated_tests": _table(ANNOTATED_TESTS, _annotated_tests(annotated)),
            "annotated_slides": _table(ANNOTATED_SLIDES, _annotated_slides(annotated)),
        }
        if annotated
        else {}
    )
    corrected = (
        {
            "audit": _table(AUDIT, _audit(audit)),
            "audit_tests": _table(AUDIT_TESTS, _audit_tests(audit)),
        }
        if audit
        else {}
    )
    return {
        **corrected,
        **powered,
        "patients": _table(PATIENTS, _patients(joined, analysis.question)),
        "groups": _table(GROUPS, _groups(analysis)),
        **(
            {"survival": _table(SURVIVAL, _medians(analysis.survival))} if analysis.survival else {}
        ),
        "tests": _table(TESTS, _tests(analysis)),
        "influence": _table(INFLUENCE, _influence(analysis)),
        "exclusions": _table(EXCLUSIONS, _exclusions(analysis.exclusions)),
    }


def _table(columns: Sequence[Column], rows: Iterable[Row]) -> pa.Table:
    cells = [[_known(cell) for cell in row] for row in rows]
    filled = list(zip(*cells, strict=True)) or [()] * len(columns)
    arrays = [pa.array(values, c.type) for c, values in zip(columns, filled, strict=True)]
    return pa.table(arrays, pa.schema([column.field for column in columns]))


def _known(cell: Any) -> Any:
    """Cell of a table: no text and no number are null."""
    return None if cell == "" or (isinstance(cell, float) and math.isnan(cell)) else cell


def _patients(joined: Joined, question: Question) -> Iterator[Row]:
    found = patient_values(joined.patients)
    place = {patient.patient_id: k for k, patient in enumerate(found.patients)}
    for patient in joined.patients:
        time, event = survival_of(question, patient) if question.survival else (math.nan, math.nan)
        slides, k = patient.analysed, place.get(patient.patient_id)
        values = (math.nan if k is None else float(found.values[m.name][k]) for m in MEASURES)
        yield (
            patient.patient_id,
            patient.named,
            why_excluded(joined, question, patient),
            " / ".join(patient.values.get(question.by, ())),
            time,
            None if math.isnan(event) else int(event),
            len(slides),
            len(patient.slides),
            sum(slide.flagged for slide in slides),
            _ids(patient),
            math.nan if k is None else float(found.doubt[k]),
            *values,
        )


def _ids(patient: Patient) -> list[str]:
    return [slide.slide_id for slide in patient.analysed]


def _groups(analysis: Analysis) -> Iterator[Row]:
    for row in analysis.descriptions:
        d = row.description
        quartiles = d.median, d.q1, d.q3
        unit = measure_of(row.measure).unit
        head = row.measure, unit, row.group, d.n, row.missing
        yield (*head, *quartiles, *astuple(d.mean))


def _tests(analysis: Analysis) -> Iterator[Row]:
    by, quality = analysis.question.by, [analysis.quality] if analysis.quality else []
    for family, findings in (
        ("by", [*analysis.findings, *analysis.without_flagged]),
        ("quality", quality),
    ):
        for finding in findings:
            yield from _finding(family, by, finding)
    for test in analysis.survival.tests if analysis.survival else ():
        yield _survival(test, "all")
    for test in analysis.survival_without_flagged:
        yield _survival(test, "without_flagged")


def _finding(family: str, by: str, finding: Finding) -> Iterator[Row]:
    f = finding
    head = family, f.measure, by, f.subset, f.test, f.n, None, f.statistic, f.p, f.p_holm
    for effect in f.effects:
        pair = effect.p_holm if effect.a else None
        yield (*head, effect.name, effect.a, effect.b, *astuple(effect.estimate), pair, None)


def _survival(test: SurvivalTest, subset: Subset) -> Row:
    t = test
    head = *t.about, subset, t.test, t.n, t.events, t.statistic, t.p, t.p_holm
    ratio = astuple(t.hazard_ratio) if t.hazard_ratio else (None, None, None)
    return (*head, t.effect, t.a, t.b, *ratio, None, t.p_proportional)


def _medians(survival: Survival) -> Iterator[Row]:
    for group in survival.groups:
        medians = *astuple(group.curve.median), *astuple(group.curve.follow_up)
        yield (group.by, group.name if group.by else None, group.n, group.events, *medians)


def _influence(analysis: Analysis) -> Iterator[Row]:
    slides = {patient.patient_id: _ids(patient) for patient in analysis.values.patients}
    for i in analysis.influences:
        test = i.test.family, i.test.measure, i.test.by
        head = i.patient.patient_id, slides[i.patient.patient_id], *test, i.changes
        yield (*head, i.p_holm, i.effect, i.change, i.doubt, i.score)


def _audit(audit: Audited) -> Iterator[Row]:
    for row in audit.areas:
        n, area = row.areas, row.area
        head = row.group, row.name, n.slides, n.patients, n.points, n.unsure, n.unreadable
        accuracy = area.users_accuracy.value, area.producers_accuracy.value
        figures = area.predicted_mm2, *astuple(area.area_mm2), *astuple(area.share), *accuracy
        further = row.half_width, row.further_points()
        yield (*head, *figures, area.least_mm2, area.most_mm2, *further)


def _audit_tests(audit: Audited) -> Iterator[Row]:
    for row in audit.differences:
        d = row.found
        shares = d.first.value, d.second.value
        yield (
            row.name,
            row.a,
            row.b,
            *d.patients,
            *shares,
            *astuple(d.difference),
            d.p,
            row.p_holm,
        )


def _annotated(annotated: Annotated) -> Iterator[Row]:
    for row in annotated.shares:
        f = row.found
        head = row.group, row.name, f.patients, f.annotated, row.with_class, f.predicted
        yield (*head, *astuple(f.annotated_mean), *astuple(f.mean), f.tuning)


def _annotated_tests(annotated: Annotated) -> Iterator[Row]:
    for row in annotated.differences:
        f, parts = row.found, (row.found.first, row.found.second)
        patients = (*(p.patients for p in parts), *(p.annotated for p in parts))
        shares = (p.mean.value for p in parts)
        difference = astuple(f.difference)
        yield (row.name, row.a, row.b, *patients, *shares, *difference, f.p, row.p_holm)


def _annotated_slides(annotated: Annotated) -> Iterator[Row]:
    for s in annotated.slides:
        head = s.slide_id, s.patient_id, s.file, s.status, s.reason, s.covered
        areas = zip(annotated.classes, s.predicted_mm2, s.true_mm2, strict=True)
        rows = areas if len(s.true_mm2) else (("", math.nan, math.nan),)
        yield from ((*head, name, round(own, 6), round(true, 6)) for name, own, true in rows)


def _exclusions(rows: Iterable[Exclusion]) -> Iterator[Row]:
    return (astuple(row) for row in rows)
