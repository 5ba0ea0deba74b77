"""Analysis of a cohort: descriptions by group, tests, sensitivity, influence, survival."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.patients.flow import Exclusion, Flow, exclusions, included, make_flow
from noctile.pipeline.patients.influence import (
    WithoutEach,
    compare_without_each,
    correlate_without_each,
)
from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.measures import MEASURES, QUALITY, Measure
from noctile.pipeline.patients.question import Question, by_value, number_of, sorted_groups
from noctile.pipeline.patients.survival import Survival, analyse_survival
from noctile.pipeline.patients.values import PatientValues, patient_values
from noctile.pipeline.statistics.correlation import spearman
from noctile.pipeline.statistics.describe import Description, describe
from noctile.pipeline.statistics.groups import Comparison, Effect, compare
from noctile.pipeline.statistics.multiplicity import holm

ALPHA: Final = 0.05
"""Level of a test below which a difference is called one."""

SPEARMAN: Final = "Spearman"
RHO: Final = "rho"
Subset = Literal["all", "without_flagged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Test of one measure against the column of a question.

    Attributes:
        measure: name of the measure.
        subset: all; without_flagged: without flagged slides.
        test: name of the test.
        n: number of patients.
        statistic: U of the first group, H, or rho.
        p: two-sided p-value.
        p_holm: the same, corrected for the number of measures; p itself for the confidence, which
            is in no family.
        effects: effect sizes with their intervals.
        left_out: groups that are too small to be compared, with their numbers of patients.
    """

    measure: str
    subset: Subset
    test: str
    n: int
    statistic: float
    p: float
    p_holm: float
    effects: tuple[Effect, ...]
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def differs(self) -> bool:
        """True if the corrected p-value is below `ALPHA`."""
        return self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """Description of a measure in one group.

    Attributes:
        measure: name of the measure.
        group: name of the group; None for all patients.
        missing: number of patients without a value.
        description: position and spread.
    """

    measure: str
    group: str | None
    missing: int
    description: Description


@dataclass(frozen=True, slots=True)
class Influence:
    """Influence of one patient on one finding.

    Attributes:
        patient: the patient.
        measure: name of the measure.
        effect: effect size without the patient.
        change: that effect minus the effect of all patients.
        p_holm: corrected p-value without the patient.
        doubt: doubt about the slides of the patient, 0..1.
        changes: True if p_holm crosses `ALPHA` without the patient.
    """

    patient: Patient
    measure: str
    effect: float
    change: float
    p_holm: float
    doubt: float
    changes: bool

    @property
    def score(self) -> float:
        """Influence times doubt."""
        return abs(self.change) * self.doubt


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything that is known of a question.

    Attributes:
        question: the question.
        flow: counts from the submission to the analysis.
        exclusions: slides, patients and rows that do not count.
        values: measures of the patients.
        groups: group of each patient, or the text of its number; empty without a column.
        descriptions: descriptions by measure and group.
        findings: tests of all patients, one for each measure.
        without_flagged: the same tests without flagged slides; empty if there are none.
        quality: test of the model's confidence; None if there is none.
        influences: influence of each patient, that which needs a look first.
        survival: survival analysis; None if it is not asked for.
    """

    question: Question
    flow: Flow
    exclusions: tuple[Exclusion, ...]
    values: PatientValues
    groups: tuple[str, ...]
    descriptions: tuple[GroupDescription, ...]
    findings: tuple[Finding, ...]
    without_flagged: tuple[Finding, ...]
    quality: Finding | None
    influences: tuple[Influence, ...]
    survival: Survival | None

    @property
    def missing(self) -> tuple[Measure, ...]:
        """Measures that no patient has."""
        return tuple(measure for measure in MEASURES if not self.values.has(measure.name))


def analyse(joined: Joined, question: Question) -> Analysis:
    """Answer a question to a cohort."""
    patients = included(joined, question)
    values = patient_values(patients)
    groups = _groups(question, values)
    findings = _findings(question, values, "all")
    without: tuple[Finding, ...] = ()
    if any(slide.flagged for patient in patients for slide in patient.analysed):
        calm = patient_values(patients, without_flagged=True)
        without = _findings(question, calm, "without_flagged")
    quality = _test(question, values.values[QUALITY], groups)
    survival = analyse_survival(question, values) if question.survival else None
    return Analysis(
        question,
        make_flow(joined, question),
        tuple(exclusions(joined, question)),
        values,
        groups,
        tuple(_descriptions(question, values, groups)),
        findings,
        without,
        replace(quality, measure=QUALITY) if quality else None,
        tuple(_influences(question, values, groups, findings)),
        survival,
    )


def _groups(question: Question, values: PatientValues) -> tuple[str, ...]:
    if question.kind == "none":
        return ()
    return tuple(by_value(question, patient) for patient in values.patients)


def _descriptions(
    question: Question, values: PatientValues, groups: Sequence[str]
) -> list[GroupDescription]:
    names = sorted_groups(groups) if question.kind == "groups" else []
    of = np.array(groups, str)
    made = []
    for measure in MEASURES:
        if not values.has(measure.name):
            continue
        all_ = values.values[measure.name]
        for name, part in [*((n, all_[of == n]) for n in names), (None, all_)]:
            there = part[np.isfinite(part)]
            description = describe(there)
            made.append(GroupDescription(measure.name, name, len(part) - len(there), description))
    return made


def _findings(question: Question, values: PatientValues, subset: Subset) -> tuple[Finding, ...]:
    """Test every measure, with Holm's correction for their number."""
    groups = _groups(question, values)
    found = []
    for measure in values.measures:
        finding = _test(question, values.values[measure.name], groups)
        if finding:
            found.append(replace(finding, measure=measure.name, subset=subset))
    corrected = holm([finding.p for finding in found])
    return tuple(replace(f, p_holm=float(p)) for f, p in zip(found, corrected, strict=True))


def _test(question: Question, values: Float64, groups: Sequence[str]) -> Finding | None:
    """Test one measure; None if there are too few values, or they do not vary."""
    there = np.isfinite(values)
    x, of = values[there], [group for group, has in zip(groups, there, strict=False) if has]
    if question.kind == "none" or not len(x) or np.ptp(x) == 0:
        return None
    if question.kind == "groups":
        found = compare(x, of)
        return _of_comparison(found) if found else None
    y = np.array([number_of(cell) for cell in of], np.float64)
    correlation = spearman(x, y)
    if correlation is None:
        return None
    effect = Effect(RHO, "", "", correlation.rho, correlation.p, correlation.p)
    statistic, p = correlation.rho.value, correlation.p
    return Finding("", "all", SPEARMAN, correlation.n, statistic, p, p, (effect,))


def _of_comparison(found: Comparison) -> Finding:
    n = sum(size for _, size in found.sizes)
    return Finding(
        "", "all", found.test, n, found.statistic, found.p, found.p, found.effects, found.left_out
    )


def _influences(
    question: Question,
    values: PatientValues,
    groups: Sequence[str],
    findings: Sequence[Finding],
) -> list[Influence]:
    """Influence of each patient on each finding; the one that needs a look first comes first."""
    if not findings:
        return []
    p = np.array([[f.p] * len(values.patients) for f in findings]).T
    effects = np.full(p.shape, np.nan)
    for k, finding in enumerate(findings):
        rows, without = _without_each(question, values.values[finding.measure], groups, finding)
        p[rows, k], effects[rows, k] = without.p, without.effect
    corrected = np.array([holm(row) for row in p])
    made = [
        Influence(
            patient,
            finding.measure,
            float(effects[i, k]),
            float(effects[i, k] - finding.effects[0].estimate.value),
            float(corrected[i, k]),
            float(values.doubt[i]),
            bool((corrected[i, k] < ALPHA) != finding.differs),
        )
        for k, finding in enumerate(findings)
        for i, patient in enumerate(values.patients)
        if np.isfinite(effects[i, k])
    ]
    order = {finding.measure: k for k, finding in enumerate(findings)}
    return sorted(
        made, key=lambda i: (not i.changes, -i.score, i.patient.patient_id, order[i.measure])
    )


def _without_each(
    question: Question, values: Float64, groups: Sequence[str], finding: Finding
) -> tuple[np.ndarray, WithoutEach]:
    """Rows of the patients in a finding, and the finding without each of them."""
    of, there = np.array(groups, str), np.isfinite(values)
    if question.kind == "number":
        rows = np.flatnonzero(there)
        y = np.array([number_of(cell) for cell in of[rows]], np.float64)
        return rows, correlate_without_each(values[rows], y)
    small = [name for name, _ in finding.left_out]
    rows = np.flatnonzero(there & ~np.isin(of, small))
    return rows, compare_without_each(values[rows], list(of[rows]))


def by_measure(findings: Sequence[Finding]) -> Mapping[str, Finding]:
    """Findings by the name of their measure."""
    return {finding.measure: finding for finding in findings}
