"""Values of all patients of a question: one for each measure, from the slides that count."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.patients.join import Patient
from noctile.pipeline.patients.measures import MEASURES, QUALITY, Measure, measure_of, patient_value
from noctile.pipeline.patients.slides import CohortSlide


@dataclass(frozen=True, slots=True, eq=False)
class PatientValues:
    """One value of each measure for each patient.

    Attributes:
        patients: the patients.
        values: float64 ``[patients]`` by the name of the measure; NaN where a patient has no value.
        doubt: float64 ``[patients]``, doubt about the slides of each patient, 0..1; see `doubt_of`.
    """

    patients: tuple[Patient, ...]
    values: Mapping[str, Float64]
    doubt: Float64

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Measures that at least one patient has, without that of quality."""
        return tuple(m for m in MEASURES if m.name != QUALITY and self.has(m.name))

    def has(self, name: str) -> bool:
        """Tell if at least one patient has a value of a measure."""
        return bool(np.isfinite(self.values[name]).any())


def patient_values(patients: Iterable[Patient], *, without_flagged: bool = False) -> PatientValues:
    """Compute the measures of patients.

    Args:
        patients: patients of a question.
        without_flagged: True to leave out flagged slides, and patients who have no other.
    """
    kept: list[tuple[Patient, list[CohortSlide]]] = []
    for patient in patients:
        slides = [s for s in patient.analysed if not (without_flagged and s.flagged)]
        if slides:
            kept.append((patient, slides))
    figures = [[slide.figures for slide in slides] for _, slides in kept]
    values = {
        measure.name: np.array([patient_value(measure, of) for of in figures], np.float64)
        for measure in MEASURES
    }
    doubt = np.array([doubt_of(slides) for _, slides in kept], np.float64)
    return PatientValues(tuple(patient for patient, _ in kept), values, doubt)


def doubt_of(slides: Sequence[CohortSlide]) -> float:
    """Doubt about the slides of a patient, 0..1.

    It is 1 - mean confidence, weighted with the tissue areas; at least 0.5 if a slide is flagged,
    and 0.5 if the confidence is not known.
    """
    confidence = patient_value(measure_of(QUALITY), [slide.figures for slide in slides])
    doubt = 0.5 if math.isnan(confidence) else 1 - confidence
    return max(doubt, 0.5) if any(slide.flagged for slide in slides) else doubt
