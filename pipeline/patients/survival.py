"""Survival of a cohort: curves by group, hazard ratios of the measures, cuts stated before."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.patients.question import Cut, Question, by_value, sorted_groups, survival_of
from noctile.pipeline.patients.values import PatientValues
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.multiplicity import holm
from noctile.pipeline.statistics.survival import (
    Curve,
    LogRank,
    Refusal,
    cox,
    kaplan_meier,
    logrank,
)

LOGRANK: Final = "log-rank"
COX: Final = "Cox"
PER_SD: Final = "hazard ratio per standard deviation"
OF_GROUPS: Final = "hazard ratio"
AT_OR_ABOVE: Final = "hazard ratio at or above the cut"

_FEWEST: Final = 3


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
    def cut(self) -> str:
        """Value of the cut; "" for a test without one."""
        return self.by.rpartition("= ")[2] if self.family == "survival_cut" else ""


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


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Survival analysis of a cohort.

    Attributes:
        n: patients with a time and an event.
        events: number of events.
        without: patients without a usable time or event.
        curves: curves by group, then those of each cut.
        tests: tests of all families.
        not_tested: measure, cut or column of each test that was refused, and the reason.
    """

    n: int
    events: int
    without: int
    curves: tuple[Curves, ...]
    tests: tuple[SurvivalTest, ...]
    not_tested: tuple[tuple[str, str], ...]


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


def analyse_survival(question: Question, values: PatientValues) -> Survival:
    """Analyse the survival of patients.

    Every measure has a hazard ratio per standard deviation (Cox, one measure at a time). Groups,
    and the two sides of each cut, have curves and a log-rank test. No cut is searched for.
    """
    pairs = [survival_of(question, patient) for patient in values.patients]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    known: Bool = np.asarray(np.isfinite(both).all(axis=1), bool)
    watched = Watched(both[known, 0], both[known, 1] == 1)
    if not len(watched.time):
        return Survival(0, 0, len(known), (), (), ())
    names = [by_value(question, patient) for patient in values.patients]
    of = [name for name, there in zip(names, known, strict=True) if there]
    curves, found = [], []
    if question.kind == "groups":
        curves.append(_curves(question.by, watched, of))
        found.append([_logrank("survival_by", "", question.by, watched, of)])
    else:
        curves.append(_curves("", watched, ["all patients"] * len(watched.time)))
    found.append(list(_hazard_ratios(values, known, watched)))
    cut_tests = []
    for cut in question.cuts:
        x = values.values[cut.measure][known]
        part, sides = watched.of(np.isfinite(x)), cut_sides(cut, x[np.isfinite(x)])
        label = f"{cut.measure} = {cut.value:g}"
        curves += [_curves(label, part, sides, cut.measure)] if sides else []
        cut_tests.append(_logrank("survival_cut", cut.measure, label, part, sides))
    found.append(cut_tests)
    tests = [test for family in found for test in _corrected(family)]
    refused = [test for family in found for test in family if isinstance(test, tuple)]
    n, events = len(watched.time), int(watched.event.sum())
    return Survival(n, events, int((~known).sum()), tuple(curves), tuple(tests), tuple(refused))


def cut_sides(cut: Cut, values: Float64) -> list[str]:
    """Name the side of each value at a cut."""
    above, below = f">= {cut.value:g}", f"< {cut.value:g}"
    return [above if value >= cut.value else below for value in values]


def _curves(title: str, watched: Watched, groups: Sequence[str], measure: str = "") -> Curves:
    of = np.array(groups, str)
    parts = {name: watched.of(of == name) for name in sorted_groups(groups)}
    found = {name: kaplan_meier(w.time, w.event) for name, w in parts.items()}
    return Curves(title, found, measure)


def _logrank(
    family: str, measure: str, by: str, watched: Watched, groups: Sequence[str]
) -> SurvivalTest | tuple[str, str]:
    """Test groups; of two, the hazard of the first is compared with that of the second."""
    names = sorted_groups(groups)
    if not names:
        return by, "no patient has a value"
    found = logrank(watched.time, watched.event, groups)
    if not isinstance(found, LogRank):
        return by, str(found)
    head = family, measure, by, LOGRANK, found.n, found.events
    test = SurvivalTest(*head, found.statistic, found.p, found.p)
    if len(names) != 2:
        return test
    a, b = reversed(names) if measure else names
    ratio = cox(watched.time, watched.event, (np.array(groups, str) == a).astype(np.float64))
    if isinstance(ratio, Refusal):
        return test
    return replace(
        test,
        effect=AT_OR_ABOVE if measure else OF_GROUPS,
        hazard_ratio=ratio.hazard_ratio,
        a=a,
        b=b,
        p_proportional=ratio.p_proportional,
    )


def _hazard_ratios(
    values: PatientValues, known: Bool, watched: Watched
) -> Iterator[SurvivalTest | tuple[str, str]]:
    for measure in values.measures:
        x = values.values[measure.name][known]
        there = np.isfinite(x)
        part, x = watched.of(there), x[there]
        if len(x) < _FEWEST:
            yield measure.name, "too few patients have a value"
            continue
        found = cox(part.time, part.event, x, unit=float(x.std(ddof=1)) or 1.0)
        if isinstance(found, Refusal):
            yield measure.name, str(found)
            continue
        head = "survival", measure.name, "", COX, found.n, found.events
        test = SurvivalTest(*head, math.nan, found.p, found.p, PER_SD, found.hazard_ratio)
        yield replace(test, p_proportional=found.p_proportional)


def _corrected(family: Sequence[SurvivalTest | tuple[str, str]]) -> list[SurvivalTest]:
    """Return the tests of one family with Holm's correction."""
    found = [test for test in family if isinstance(test, SurvivalTest)]
    corrected = holm([test.p for test in found])
    return [replace(t, p_holm=float(p)) for t, p in zip(found, corrected, strict=True)]
