"""Analysis of a cohort: descriptions by group, tests, sensitivity, influence, survival."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.patients.flow import (
    Count,
    Exclusion,
    Flow,
    exclusions,
    flagged_of,
    included,
    make_flow,
)
from noctile.pipeline.patients.influence import Influence, Tested, find_influences
from noctile.pipeline.patients.join import Joined
from noctile.pipeline.patients.measures import MEASURES, QUALITY, Measure, measure_of
from noctile.pipeline.patients.question import Question, by_value, number_of, sorted_groups
from noctile.pipeline.patients.survival import (
    Survival,
    SurvivalTest,
    analyse_survival,
    survival_without_each,
)
from noctile.pipeline.patients.values import PatientValues, patient_values
from noctile.pipeline.statistics.correlation import spearman
from noctile.pipeline.statistics.describe import Description, describe
from noctile.pipeline.statistics.groups import Comparison, Effect, compare
from noctile.pipeline.statistics.multiplicity import ALPHA, holm
from noctile.pipeline.statistics.without_each import (
    WithoutEach,
    compare_without_each,
    correlate_without_each,
)

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
        survival_without_flagged: its tests without flagged slides; empty if there are none.
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
    survival_without_flagged: tuple[SurvivalTest, ...]

    @property
    def flagged(self) -> Count:
        """Flagged slides that answer the question, and their patients."""
        return flagged_of(self.values.patients)

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
    survival = analyse_survival(question, values) if question.survival else None
    without: tuple[Finding, ...] = ()
    survival_without: tuple[SurvivalTest, ...] = ()
    if flagged_of(patients).slides:
        calm = patient_values(patients, without_flagged=True)
        without = _findings(question, calm, "without_flagged")
        survival_without = analyse_survival(question, calm).tests if survival else ()
    quality = _test(question, values.values[QUALITY], groups)
    tested = list(_tested(question, values, groups, findings))
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
        find_influences(values, [tested, *_tested_survival(survival)]),
        survival,
        survival_without,
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


def _tested(
    question: Question,
    values: PatientValues,
    groups: Sequence[str],
    findings: Sequence[Finding],
) -> Iterator[Tested]:
    """Yield each finding with the same test without each patient."""
    for finding in findings:
        title, effect = measure_of(finding.measure).title, finding.effects[0].estimate.value
        about = "by", finding.measure, question.by, title, finding.p, finding.p_holm, effect
        yield Tested(
            *about, *_without_each(question, values.values[finding.measure], groups, finding)
        )


def _tested_survival(survival: Survival | None) -> list[list[Tested]]:
    """Return the tests of survival with the same tests without each patient, by family."""
    families: dict[str, list[Tested]] = {}
    for test, sample in zip(survival.tests, survival.samples, strict=True) if survival else ():
        about = *test.about, test.title, test.p, test.p_holm, test.size
        tested = Tested(*about, sample.rows, survival_without_each(test, sample))
        families.setdefault(test.family, []).append(tested)
    return list(families.values())


def _without_each(
    question: Question, values: Float64, groups: Sequence[str], finding: Finding
) -> tuple[Int64, WithoutEach]:
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
