"""Survival of a cohort: curves by group, hazard ratios of the measures, cuts stated before."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, Int64
from noctile.pipeline.patients.measures import measure_of
from noctile.pipeline.patients.question import Cut, Question, by_value, sorted_groups, survival_of
from noctile.pipeline.patients.values import PatientValues
from noctile.pipeline.statistics.cox_without_each import cox_without_each
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.groups import MIN_GROUP
from noctile.pipeline.statistics.kaplan_meier import Curve, kaplan_meier
from noctile.pipeline.statistics.log_rank import logrank, logrank_without_each
from noctile.pipeline.statistics.multiplicity import ALPHA, holm
from noctile.pipeline.statistics.survival import Cox, Refusal, cox
from noctile.pipeline.statistics.without_each import WithoutEach

LOGRANK: Final = "log-rank"
COX: Final = "Cox"
PER_SD: Final = "hazard ratio per standard deviation"
OF_GROUPS: Final = "hazard ratio"
AT_OR_ABOVE: Final = "hazard ratio at or above the cut"


@dataclass(frozen=True, slots=True)
class SurvivalTest:
    """One test of survival.

    Attributes:
        family: survival: measures; survival_by: groups; survival_cut: cuts.
        measure: name of the measure; "" for groups.
        by: column of the groups, or the cut; "" for a measure.
        test: name of the test.
        n: number of patients.
        events: number of events of these patients.
        statistic: chi-square; NaN for Cox.
        p: two-sided p-value.
        p_holm: the same, corrected for the number of tests of the family.
        effect: name of the effect; "" if there is none.
        hazard_ratio: hazard ratio with its interval; None if there is none.
        a: group with the hazard; "" for a measure.
        b: group that it is compared with; "" for a measure.
        p_proportional: p-value of the test of proportional hazards; NaN without a hazard ratio.
    """

    family: str
    measure: str
    by: str
    test: str
    n: int
    events: int
    statistic: float
    p: float
    p_holm: float
    effect: str = ""
    hazard_ratio: Estimate | None = None
    a: str = ""
    b: str = ""
    p_proportional: float = math.nan

    @property
    def differs(self) -> bool:
        """True if the corrected p-value is below `ALPHA`."""
        return self.p_holm < ALPHA

    @property
    def about(self) -> tuple[str, str, str]:
        """Family, measure and column or cut, which tell the tests apart."""
        return self.family, self.measure, self.by

    @property
    def subject(self) -> str:
        """Measure, cut or column that survival is compared by, for a reader."""
        return _subject(self.measure, self.by)

    @property
    def title(self) -> str:
        """Title of the test beside those of measures."""
        return f"Survival by {self.subject}"

    @property
    def size(self) -> float:
        """Log hazard ratio; without one, that of two equal groups with this chi-square.

        Source: Schoenfeld, The asymptotic properties of nonparametric tests for comparing survival
        distributions, Biometrika 68 (1981), 316-319.
        """
        if self.hazard_ratio:
            return float(np.log(max(self.hazard_ratio.value, np.finfo(np.float64).tiny)))
        return 2 * math.sqrt(self.statistic / self.events)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Survival curves of some groups.

    Attributes:
        title: column of the groups, or the cut; "" for all patients.
        curves: curve of each group, by its name.
        measure: measure of the cut; "" for groups and for all patients.
    """

    title: str
    curves: dict[str, Curve]
    measure: str = ""

    @property
    def subject(self) -> str:
        """Column or cut, for a reader; "" for all patients."""
        return _subject(self.measure, self.title)


@dataclass(frozen=True, slots=True, eq=False)
class GroupCurve:
    """Survival curve of one group.

    Attributes:
        by: column of the groups, or the cut; "" for all patients.
        subject: the same, for a reader.
        name: name of the group.
        curve: curve of the group.
    """

    by: str
    subject: str
    name: str
    curve: Curve

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.curve.at_risk[0])

    @property
    def events(self) -> int:
        """Number of events."""
        return int(self.curve.events.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Patients with a time.

    Attributes:
        time: float64 ``[n]``, time of the event or of the last watch.
        event: bool ``[n]``, True for an event.
    """

    time: Float64
    event: Bool

    def of(self, there: Bool) -> "Watched":
        """Return some of the patients."""
        return Watched(self.time[there], self.event[there])


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Patients of one test of survival.

    Attributes:
        family: see `SurvivalTest`.
        measure: see `SurvivalTest`.
        by: see `SurvivalTest`.
        rows: int64 ``[n]``, numbers of the patients.
        watched: their times and events.
        x: float64 ``[n]``, measure in standard deviations; of two groups, 1 for the first, else 0.
        groups: group of each patient; empty for a measure.
    """

    family: str
    measure: str
    by: str
    rows: Int64
    watched: Watched
    x: Float64
    groups: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """Names of the groups; of a cut, the patients at or above it come first."""
        return sorted_groups(self.groups)[:: -1 if self.measure else 1]


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Survival analysis of a cohort.

    Attributes:
        n: patients with a time and an event.
        events: number of events.
        without: patients without a usable time or event.
        overall: curve of all patients; None if there are none.
        curves: curves by group, then those of each cut.
        tests: tests of all families.
        samples: patients of each test.
        not_tested: subject of each test that was refused, and the reason.
    """

    n: int
    events: int
    without: int
    overall: Curve | None
    curves: tuple[Curves, ...]
    tests: tuple[SurvivalTest, ...]
    samples: tuple[Sample, ...]
    not_tested: tuple[tuple[str, str], ...]

    @property
    def groups(self) -> list[GroupCurve]:
        """Curve of all patients, then of each group and of each side of a cut."""
        if not self.overall:
            return []
        return [
            GroupCurve("", "", "all patients", self.overall),
            *(
                GroupCurve(curves.title, curves.subject, name, curve)
                for curves in self.curves
                for name, curve in curves.curves.items()
                if curves.title
            ),
        ]


def analyse_survival(question: Question, values: PatientValues) -> Survival:
    """Analyse the survival of patients.

    Every measure has a hazard ratio per standard deviation (Cox, one measure at a time). Groups,
    and the two sides of each cut, have curves and a log-rank test. No cut is searched for.
    """
    pairs = [survival_of(question, patient) for patient in values.patients]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    known: Bool = np.asarray(np.isfinite(both).all(axis=1), bool)
    rows, watched = np.flatnonzero(known), Watched(both[known, 0], both[known, 1] == 1)
    if not len(rows):
        return Survival(0, 0, len(known), None, (), (), (), ())
    samples = list(_samples(question, values, rows, watched))
    curves = [_curves(sample) for sample in samples if sample.groups]
    overall = kaplan_meier(watched.time, watched.event)
    if question.kind != "groups":
        curves.insert(0, Curves("", {"all patients": overall}))
    tried = [(sample, _test(sample)) for sample in map(_compared, samples)]
    refused = [(_subject(s.measure, s.by), test) for s, test in tried if isinstance(test, str)]
    refused += [
        (f"{_subject(all_.measure, all_.by)}, {name}", f"fewer than {MIN_GROUP} patients")
        for all_, (part, _) in zip(samples, tried, strict=True)
        for name in all_.names
        if name not in part.names
    ]
    found = [(s, test) for s, test in tried if isinstance(test, SurvivalTest)]
    tests = _corrected([test for _, test in found])
    tested = tuple(sample for sample, _ in found)
    counts = len(rows), int(watched.event.sum()), int((~known).sum())
    return Survival(*counts, overall, tuple(curves), tests, tested, tuple(refused))


def _subject(measure: str, by: str) -> str:
    """Measure, cut or column of a test, for a reader."""
    if not measure:
        return by
    title, cut = measure_of(measure).title, by.rpartition("= ")[2]
    return f"{title}, cut at {cut}" if cut else title


def cut_sides(cut: Cut, values: Float64) -> list[str]:
    """Name the side of each value at a cut."""
    above, below = f">= {cut.value:g}", f"< {cut.value:g}"
    return [above if value >= cut.value else below for value in values]


def survival_without_each(test: SurvivalTest, sample: Sample) -> WithoutEach:
    """Repeat a test of survival without each of its patients.

    Args:
        test: the test.
        sample: its patients.

    Returns:
        `SurvivalTest.size` and p-value without each patient.
    """
    time, event = sample.watched.time, sample.watched.event
    if not sample.groups:
        return cox_without_each(time, event, sample.x)
    found = logrank_without_each(time, event, sample.groups)
    if test.hazard_ratio:
        return WithoutEach(cox_without_each(time, event, sample.x).effect, found.p)
    return WithoutEach(2 * np.sqrt(found.statistic / (event.sum() - event)), found.p)


def _samples(
    question: Question, values: PatientValues, rows: Int64, watched: Watched
) -> Iterator[Sample]:
    """Yield the patients of each test, without those who have no value."""
    if question.kind == "groups":
        groups = [by_value(question, values.patients[row]) for row in rows]
        yield _of_groups("survival_by", "", question.by, rows, watched, groups)
    for measure in values.measures:
        x = values.values[measure.name][rows]
        there = np.isfinite(x)
        deviation = float(x[there].std(ddof=1)) if there.sum() > 1 else 0.0
        part = rows[there], watched.of(there), x[there] / (deviation or 1.0)
        yield Sample("survival", measure.name, "", *part)
    for cut in question.cuts:
        x = values.values[cut.measure][rows]
        there, label = np.isfinite(x), f"{cut.measure} = {cut.value:g}"
        sides = cut_sides(cut, x[there])
        yield _of_groups("survival_cut", cut.measure, label, rows[there], watched.of(there), sides)


def _of_groups(
    family: str, measure: str, by: str, rows: Int64, watched: Watched, groups: Sequence[str]
) -> Sample:
    sample = Sample(family, measure, by, rows, watched, np.zeros(len(rows)), groups)
    if len(sample.names) != 2:
        return sample
    return replace(sample, x=(np.array(groups, str) == sample.names[0]).astype(np.float64))


def _curves(sample: Sample) -> Curves:
    of = np.array(sample.groups, str)
    parts = {name: sample.watched.of(of == name) for name in sorted_groups(sample.groups)}
    found = {name: kaplan_meier(w.time, w.event) for name, w in parts.items()}
    return Curves(sample.by, found, sample.measure)


def _large(sample: Sample) -> list[str]:
    """Names of the groups that are large enough to be compared."""
    return [name for name in sample.names if sample.groups.count(name) >= MIN_GROUP]


def _compared(sample: Sample) -> Sample:
    """Leave out groups that are too small to be compared, if two others are not."""
    large = _large(sample)
    if not sample.groups or len(large) < 2:
        return sample
    kept = np.isin(np.array(sample.groups, str), large)
    groups = [name for name in sample.groups if name in large]
    head = sample.family, sample.measure, sample.by
    return _of_groups(*head, sample.rows[kept], sample.watched.of(kept), groups)


def _test(sample: Sample) -> SurvivalTest | str:
    """Test a sample; the reason if that is refused."""
    if not len(sample.rows):
        return "no patient has a value"
    if sample.groups and len(_large(sample)) < 2:
        return f"fewer than two groups of {MIN_GROUP} patients"
    time, event = sample.watched.time, sample.watched.event
    ratio, head = cox(time, event, sample.x), (sample.family, sample.measure, sample.by)
    if not sample.groups:
        if isinstance(ratio, Refusal):
            return str(ratio)
        about = *head, COX, ratio.n, ratio.events
        test = SurvivalTest(*about, math.nan, ratio.p, ratio.p)
        return _with_ratio(test, PER_SD, ratio)
    found = logrank(time, event, sample.groups)
    if isinstance(found, Refusal):
        return str(found)
    about = *head, LOGRANK, found.n, found.events
    test = SurvivalTest(*about, found.statistic, found.p, found.p)
    if isinstance(ratio, Cox):
        (a, b), effect = sample.names, AT_OR_ABOVE if sample.measure else OF_GROUPS
        test = replace(_with_ratio(test, effect, ratio), a=a, b=b)
    return test


def _with_ratio(test: SurvivalTest, effect: str, ratio: Cox) -> SurvivalTest:
    return replace(
        test, effect=effect, hazard_ratio=ratio.hazard_ratio, p_proportional=ratio.p_proportional
    )


def _corrected(tests: Sequence[SurvivalTest]) -> tuple[SurvivalTest, ...]:
    """Return tests with Holm's correction within each family."""
    corrected = {
        family: iter(holm([test.p for test in tests if test.family == family]))
        for family in {test.family for test in tests}
    }
    return tuple(replace(test, p_holm=float(next(corrected[test.family]))) for test in tests)
