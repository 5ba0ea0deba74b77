"""Influence of single patients on the tests of a cohort."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.patients.join import Patient
from noctile.pipeline.patients.values import PatientValues
from noctile.pipeline.statistics.multiplicity import ALPHA, holm
from noctile.pipeline.statistics.without_each import WithoutEach


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """A test with all patients, and without each of them.

    Attributes:
        family: family of tests that its p-value is corrected for.
        measure: name of the measure; "" for groups without one.
        by: column that is compared, or the cut.
        title: subject of the test, for a reader.
        p: two-sided p-value.
        p_holm: the same, corrected.
        effect: effect size.
        rows: int64 ``[n]``, numbers of its patients.
        without: effect and p-value without each of these patients; NaN where it cannot be made.
    """

    family: str
    measure: str
    by: str
    title: str
    p: float
    p_holm: float
    effect: float
    rows: Int64
    without: WithoutEach


@dataclass(frozen=True, slots=True)
class Influence:
    """Influence of one patient on one test.

    Attributes:
        patient: the patient.
        test: the test.
        effect: effect size without the patient; NaN if the test cannot be made.
        change: that effect minus the effect of all patients.
        p_holm: corrected p-value without the patient; NaN if the test cannot be made.
        doubt: doubt about the slides of the patient, 0..1.
        changes: True if p_holm crosses `ALPHA` without the patient, or a difference can no longer
            be tested.
    """

    patient: Patient
    test: Tested
    effect: float
    change: float
    p_holm: float
    doubt: float
    changes: bool

    @property
    def score(self) -> float:
        """Influence times doubt."""
        return abs(self.change) * self.doubt


def find_influences(
    values: PatientValues, families: Iterable[Sequence[Tested]]
) -> tuple[Influence, ...]:
    """Return the influence of each patient on each test.

    Patients without whom an answer changes come first, then those with the largest influence times
    doubt.

    Args:
        values: patients and the doubt about their slides.
        families: tests of each family.
    """
    made = (found for tests in families for found in _of_family(values, tests))
    return tuple(sorted(made, key=_rank))


def _rank(found: Influence) -> tuple[bool, float, str]:
    score = found.score if math.isfinite(found.score) else 0.0
    return not found.changes, -score, found.patient.patient_id


def _of_family(values: PatientValues, tests: Sequence[Tested]) -> Iterator[Influence]:
    p = np.tile([test.p for test in tests], (len(values.patients), 1))
    for k, test in enumerate(tests):
        p[test.rows, k] = test.without.p
    corrected = np.full(p.shape, np.nan)
    for row, of in zip(corrected, p, strict=True):
        row[np.isfinite(of)] = holm(of[np.isfinite(of)])
    for k, test in enumerate(tests):
        for row, effect in zip(test.rows, test.without.effect.tolist(), strict=True):
            p_holm = float(corrected[row, k])
            yield Influence(
                values.patients[row],
                test,
                effect,
                effect - test.effect,
                p_holm,
                float(values.doubt[row]),
                (p_holm < ALPHA) != (test.p_holm < ALPHA),
            )
