"""Flow of slides and patients from the submission to the analysis, and the exclusions by name."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.question import Question, by_value, sorted_groups

NO_SLIDE: Final = "no_analysed_slide"
NO_ROW: Final = "no_clinical_row"
NO_VALUE: Final = "no_value"
DISAGREE: Final = "values_disagree"
UNMATCHED: Final = "no_slide"

REASONS: Final = {
    NO_SLIDE: "no slide of the patient was analysed",
    NO_ROW: "no row in the clinical table",
    NO_VALUE: "no value in the column",
    DISAGREE: "slides or rows of the patient disagree",
}
"""Reasons why a patient with slides is not part of a question, with their meanings."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A slide, patient or row of the clinical table that does not count.

    Attributes:
        level: slide, patient or clinical_row.
        name: id of the slide or patient, or that of the row.
        patient_id: patient of the slide; "" if there is none.
        reason: code of the reason.
        message: text that explains the reason.
    """

    level: str
    name: str
    patient_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Count:
    """Number of slides and patients at a point of the flow."""

    slides: int
    patients: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Counts from the submission to the analysis.

    Attributes:
        submitted: slides that the results know, and their patients.
        not_done: slides without a result, by the code of the reason, most frequent first.
        rejected: slides that reviewers rejected.
        not_listed: slides that a clinical table of slides does not list.
        with_result: slides that count, and their patients.
        flagged: those of them with a quality flag or a doubt of reviewers.
        regions_left_out: slides of them whose areas leave out regions of reviewers.
        excluded: patients that are not part of the question, by the code of the reason.
        analysed: slides and patients that answer the question.
        groups: slides and patients of each group.
        unmatched_rows: rows of the clinical table that belong to no slide.
        own_patients: slides with a result whose patient nothing names; each is a patient.
    """

    submitted: Count
    not_done: tuple[tuple[str, int], ...]
    rejected: int
    not_listed: int
    with_result: Count
    flagged: Count
    regions_left_out: int
    excluded: tuple[tuple[str, Count], ...]
    analysed: Count
    groups: tuple[tuple[str, Count], ...]
    unmatched_rows: int
    own_patients: int


def counted(n: int, word: str) -> str:
    """Number with its word, such as ``1 slide`` and ``2,000 slides``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def why_excluded(joined: Joined, question: Question, patient: Patient) -> str:
    """Return the code of the reason why a patient is not part of a question; "" if it is."""
    if not patient.analysed:
        return NO_SLIDE
    clinical = joined.clinical
    asked = [name for name in (question.by, question.time, question.event) if name]
    if clinical and not patient.in_clinical and set(asked) & set(clinical.columns):
        return NO_ROW
    if not question.by:
        return ""
    cells = patient.values.get(question.by, ())
    return DISAGREE if len(cells) > 1 else "" if cells else NO_VALUE


def included(joined: Joined, question: Question) -> tuple[Patient, ...]:
    """Patients that answer a question, sorted by id."""
    return tuple(p for p in joined.patients if not why_excluded(joined, question, p))


def make_flow(joined: Joined, question: Question) -> Flow:
    """Count slides and patients from the submission to the analysis."""
    slides = [slide for patient in joined.patients for slide in patient.slides]
    reasons = Counter(slide.reason for slide in slides if slide.fate == "not_done")
    fates = Counter(slide.fate for slide in slides)
    with_result = [patient for patient in joined.patients if patient.analysed]
    excluded: dict[str, list[Patient]] = {}
    for patient in with_result:
        if reason := why_excluded(joined, question, patient):
            excluded.setdefault(reason, []).append(patient)
    kept = included(joined, question)
    return Flow(
        Count(len(slides), len(joined.patients)),
        tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        fates["rejected"],
        fates["not_listed"],
        _count(with_result),
        flagged_of(with_result),
        sum(slide.regions_left_out for patient in with_result for slide in patient.analysed),
        tuple((reason, _count(excluded[reason])) for reason in REASONS if reason in excluded),
        _count(kept),
        _groups(kept, question),
        len(joined.unmatched_rows),
        sum(not patient.named for patient in with_result),
    )


def _count(patients: Sequence[Patient]) -> Count:
    return Count(sum(len(patient.analysed) for patient in patients), len(patients))


def flagged_of(patients: Iterable[Patient]) -> Count:
    """Count the flagged slides of patients, and the patients who have some."""
    numbers = [sum(slide.flagged for slide in patient.analysed) for patient in patients]
    return Count(sum(numbers), sum(number > 0 for number in numbers))


def _groups(patients: Sequence[Patient], question: Question) -> tuple[tuple[str, Count], ...]:
    if question.kind != "groups":
        return ()
    members: dict[str, list[Patient]] = defaultdict(list)
    for patient in patients:
        members[by_value(question, patient)].append(patient)
    return tuple((name, _count(members[name])) for name in sorted_groups(members))


def exclusions(joined: Joined, question: Question) -> list[Exclusion]:
    """Name every slide, patient and row of the clinical table that does not count."""
    rows = (
        Exclusion("clinical_row", row.name, row.patient_id, UNMATCHED, _unmatched(row.number))
        for row in joined.unmatched_rows
    )
    return [*_slides(joined), *_patients(joined, question), *rows]


def _unmatched(number: int) -> str:
    return f"row {number} of the clinical table belongs to no slide of the results"


def _slides(joined: Joined) -> Iterator[Exclusion]:
    for patient in joined.patients:
        owner = patient.patient_id if patient.named else ""
        for slide in patient.slides:
            if not slide.analysed:
                yield Exclusion("slide", slide.slide_id, owner, slide.reason, slide.message)


def _patients(joined: Joined, question: Question) -> Iterator[Exclusion]:
    for patient in joined.patients:
        if reason := why_excluded(joined, question, patient):
            name, message = patient.patient_id, REASONS[reason]
            if reason in (NO_VALUE, DISAGREE):
                cells = patient.values.get(question.by, ())
                message = f"{message}: {question.by} {' / '.join(cells[:10])}".rstrip()
            yield Exclusion("patient", name, name, reason, message)
