"""Tidy tables of a cohort: patients, groups, tests, influence, exclusions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any, Final

import pyarrow as pa

from noctile.pipeline.columns import BOOLEAN, CATEGORY, FLAGS, INTEGER, NUMBER, TEXT, Column
from noctile.pipeline.patients.analysis import Analysis, Finding, Subset
from noctile.pipeline.patients.annotated import Annotated
from noctile.pipeline.patients.audited import Audited
from noctile.pipeline.patients.flow import Exclusion, why_excluded
from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.measures import MEASURES, measure_of
from noctile.pipeline.patients.question import Question, survival_of
from noctile.pipeline.patients.survival import Survival, SurvivalTest
from noctile.pipeline.patients.values import patient_values

PATIENTS: Final = (
    Column("patient_id", TEXT, "patient; the slide itself if nothing names its patient"),
    Column("patient_named", BOOLEAN, "false if nothing names the patient of the slide"),
    Column("excluded", CATEGORY, "code of the reason why the patient is not analysed; else empty"),
    Column("by", CATEGORY, "cell of the column that is compared; several are separated by /"),
    Column("time", NUMBER, "survival time, in the unit of its column"),
    Column("event", INTEGER, "1 for an event, 0 for none"),
    Column("slides", INTEGER, "slides that count", "count"),
    Column("slides_submitted", INTEGER, "slides of the patient that the results know", "count"),
    Column("slides_flagged", INTEGER, "slides that count and are flagged", "count"),
    Column("slide_ids", FLAGS, "ids of the slides that count; separated by ; in CSV"),
    Column(
        "doubt",
        NUMBER,
        "1 - mean confidence; at least 0.5 if a slide is flagged, 0.5 if it is not known",
        "0..1",
    ),
    *(Column(m.name, NUMBER, m.description, m.unit) for m in MEASURES),
)

GROUPS: Final = (
    Column("measure", CATEGORY, "name of the measure"),
    Column("unit", CATEGORY, "unit of the measure"),
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("n", INTEGER, "patients with a value", "count"),
    Column("missing", INTEGER, "patients without a value", "count"),
    Column("median", NUMBER, "median, in the unit of the measure"),
    Column("q1", NUMBER, "first quartile"),
    Column("q3", NUMBER, "third quartile"),
    Column("mean", NUMBER, "mean"),
    Column("mean_low", NUMBER, "lower end of its 95 % bootstrap interval"),
    Column("mean_high", NUMBER, "upper end of its 95 % bootstrap interval"),
)

TESTS: Final = (
    Column(
        "family",
        CATEGORY,
        "by: measures against the column; quality: the model's confidence; survival: measures; "
        "survival_by: groups; survival_cut: cuts",
    ),
    Column("measure", CATEGORY, "name of the measure; empty for groups without a measure"),
    Column("by", CATEGORY, "column that is compared, or the cut"),
    Column("subset", CATEGORY, "all, or without_flagged: without flagged slides"),
    Column("test", CATEGORY, "name of the test"),
    Column("n", INTEGER, "patients", "count"),
    Column("events", INTEGER, "events of these patients; empty without survival", "count"),
    Column("statistic", NUMBER, "U of the first group, H, rho or chi-square; empty for Cox"),
    Column("p", NUMBER, "two-sided p-value of the test", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of tests of its family", "0..1"),
    Column(
        "effect",
        CATEGORY,
        "Cliff's delta, epsilon squared, rho, or hazard ratio; each has a row of its own",
    ),
    Column("a", CATEGORY, "first group of the effect; empty for all groups"),
    Column("b", CATEGORY, "second group of the effect; empty for all groups"),
    Column("value", NUMBER, "size of the effect; delta is above 0 if a tends to be larger"),
    Column("low", NUMBER, "lower end of its 95 % interval"),
    Column("high", NUMBER, "upper end of its 95 % interval"),
    Column("p_pair", NUMBER, "p-value of a and b, corrected for the number of pairs", "0..1"),
    Column(
        "p_proportional",
        NUMBER,
        "p-value of proportional hazards; a small one says that the ratio changes with time",
        "0..1",
    ),
)

SURVIVAL: Final = (
    Column("by", CATEGORY, "column of the groups, or the cut; empty for all patients"),
    Column("group", CATEGORY, "group, or side of the cut; empty for all patients"),
    Column("n", INTEGER, "patients with a time and an event", "count"),
    Column("events", INTEGER, "events of these patients", "count"),
    Column("median", NUMBER, "median survival (Kaplan-Meier); empty if it is not reached"),
    Column("median_low", NUMBER, "lower end of its 95 % interval"),
    Column("median_high", NUMBER, "upper end of its 95 % interval; empty if it is not reached"),
    Column("follow_up", NUMBER, "median follow-up, by the reverse Kaplan-Meier method"),
    Column("follow_up_low", NUMBER, "lower end of its 95 % interval"),
    Column("follow_up_high", NUMBER, "upper end of its 95 % interval"),
)

INFLUENCE: Final = (
    Column("patient_id", TEXT, "patient who is left out"),
    Column("slide_ids", FLAGS, "slides of the patient that count; separated by ; in CSV"),
    Column("family", CATEGORY, "family of the test, as in tests"),
    Column("measure", CATEGORY, "name of the measure; empty for groups without a measure"),
    Column("by", CATEGORY, "column that is compared, or the cut"),
    Column(
        "changes_conclusion",
        BOOLEAN,
        "true if p_holm crosses 0.05 without the patient, or a difference can no longer be tested",
    ),
    Column(
        "p_holm",
        NUMBER,
        "corrected p-value without the patient; empty if the test cannot be made",
        "0..1",
    ),
    Column(
        "effect",
        NUMBER,
        "first effect of the test, without the patient; of survival, the log hazard ratio",
    ),
    Column("change", NUMBER, "that effect minus the effect with all patients"),
    Column("doubt", NUMBER, "doubt about the patient's slides, as in patients", "0..1"),
    Column("influence_times_doubt", NUMBER, "absolute change x doubt, which sorts the rows"),
)

EXCLUSIONS: Final = (
    Column("level", CATEGORY, "slide, patient or clinical_row"),
    Column("name", TEXT, "slide_id, patient_id, or the id in the row of the clinical table"),
    Column("patient_id", CATEGORY, "patient, if one is named"),
    Column("reason", CATEGORY, "code of the reason"),
    Column("message", CATEGORY, "text that explains it"),
)

AUDIT: Final = (
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("class", CATEGORY, "class of the model"),
    Column("slides", INTEGER, "slides that the audit speaks for", "count"),
    Column("patients", INTEGER, "patients of these slides", "count"),
    Column("points", INTEGER, "points that were answered with a class", "count"),
    Column("unsure", INTEGER, "points that were answered unsure", "count"),
    Column("unreadable", INTEGER, "points that were answered unreadable", "count"),
    Column("predicted_mm2", NUMBER, "area that the model predicts", "mm²"),
    Column("area_mm2", NUMBER, "corrected area of the true class", "mm²"),
    Column("area_low_mm2", NUMBER, "lower end of its 95 % interval", "mm²"),
    Column("area_high_mm2", NUMBER, "upper end of its 95 % interval", "mm²"),
    Column("share", NUMBER, "corrected area / analysed area", "0..1"),
    Column("share_low", NUMBER, "lower end of its 95 % interval", "0..1"),
    Column("share_high", NUMBER, "upper end of its 95 % interval", "0..1"),
    Column("users_accuracy", NUMBER, "part of the predicted class that is true", "0..1"),
    Column("producers_accuracy", NUMBER, "part of the true class that is predicted", "0..1"),
    Column("least_mm2", NUMBER, "area if no unsure or unreadable point were of the class", "mm²"),
    Column("most_mm2", NUMBER, "area if all unsure and unreadable points were of it", "mm²"),
    Column("half_width", NUMBER, "half of the area's 95 % interval / area", "1"),
    Column(
        "further_points",
        INTEGER,
        "further answers on these slides for a half-width of 0.1; empty if no number suffices",
        "count",
    ),
)

AUDIT_TESTS: Final = (
    Column("class", CATEGORY, "class of the model"),
    Column("a", CATEGORY, "first group"),
    Column("b", CATEGORY, "second group"),
    Column("n_a", INTEGER, "patients of the first group", "count"),
    Column("n_b", INTEGER, "patients of the second group", "count"),
    Column("share_a", NUMBER, "mean corrected share of the class of a patient of a", "0..1"),
    Column("share_b", NUMBER, "the same of b", "0..1"),
    Column("difference", NUMBER, "share_a - share_b", "1"),
    Column("low", NUMBER, "lower end of its 95 % interval", "1"),
    Column("high", NUMBER, "upper end of its 95 % interval", "1"),
    Column("p", NUMBER, "two-sided p-value of Welch's t", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of classes and pairs", "0..1"),
)

ANNOTATED: Final = (
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("class", CATEGORY, "class of the model"),
    Column("patients", INTEGER, "patients with a prediction", "count"),
    Column("annotated", INTEGER, "patients who are annotated in full", "count"),
    Column("with_class", INTEGER, "annotated patients who have the class", "count"),
    Column("predicted_share", NUMBER, "mean predicted share of all these patients", "0..1"),
    Column("annotated_share", NUMBER, "mean true share of the annotated patients alone", "0..1"),
    Column("annotated_low", NUMBER, "lower end of the 95 % interval of annotated_share", "1"),
    Column("annotated_high", NUMBER, "upper end of the 95 % interval of annotated_share", "1"),
    Column("share", NUMBER, "mean true share by prediction-powered inference", "1"),
    Column("share_low", NUMBER, "lower end of the 95 % interval of share", "1"),
    Column("share_high", NUMBER, "upper end of the 95 % interval of share", "1"),
    Column("tuning", NUMBER, "weight of the predictions; 0 if they tell nothing", "1"),
)

ANNOTATED_TESTS: Final = (
    Column("class", CATEGORY, "class of the model"),
    Column("a", CATEGORY, "first group"),
    Column("b", CATEGORY, "second group"),
    Column("n_a", INTEGER, "patients of the first group", "count"),
    Column("n_b", INTEGER, "patients of the second group", "count"),
    Column("annotated_a", INTEGER, "annotated patients of the first group", "count"),
    Column("annotated_b", INTEGER, "annotated patients of the second group", "count"),
    Column("share_a", NUMBER, "share of a, as in annotated", "1"),
    Column("share_b", NUMBER, "the same of b", "1"),
    Column("difference", NUMBER, "share_a - share_b", "1"),
    Column("low", NUMBER, "lower end of its 95 % interval", "1"),
    Column("high", NUMBER, "upper end of its 95 % interval", "1"),
    Column("p", NUMBER, "two-sided p-value of Welch's t", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of classes and pairs", "0..1"),
)

ANNOTATED_SLIDES: Final = (
    Column("slide_id", TEXT, "slide with annotations"),
    Column("patient_id", TEXT, "patient of the slide; empty if the slide does not count"),
    Column("file", TEXT, "name of the file with the annotations"),
    Column("status", CATEGORY, "used, in_part, patient_in_part or not_counted"),
    Column("reason", CATEGORY, "code of the reason why the slide does not count"),
    Column("covered", NUMBER, "annotated part of the analysed area", "0..1"),
    Column("class", CATEGORY, "class of the model; a slide that counts has a row for each"),
    Column("predicted_mm2", NUMBER, "area that the model predicts", "mm²"),
    Column("true_mm2", NUMBER, "annotated area of the class", "mm²"),
)

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
