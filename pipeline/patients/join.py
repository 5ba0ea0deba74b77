"""Patients with their slides and clinical values; every row without a partner is named."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from noctile.pipeline.errors import UsageError
from noctile.pipeline.patients.clinical import ClinicalRow, ClinicalTable
from noctile.pipeline.patients.slides import CohortSlide


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient with at least one slide that was submitted.

    Attributes:
        patient_id: id of the patient; that of the slide, if nothing names its patient.
        slides: slides of the patient.
        named: False if the patient is a slide whose patient nothing names.
        in_clinical: True if a row of the clinical table belongs to the patient.
        values: different cells of each column, from the clinical table and the manifest, in the
            order in which they were found.
    """

    patient_id: str
    slides: tuple[CohortSlide, ...]
    named: bool
    in_clinical: bool
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def analysed(self) -> tuple[CohortSlide, ...]:
        """Slides that count in the figures of the patient."""
        return tuple(slide for slide in self.slides if slide.analysed)


@dataclass(frozen=True, slots=True)
class Joined:
    """Patients of a cohort.

    Attributes:
        patients: patients, sorted by id.
        columns: headers of all columns that can be asked for.
        clinical: the clinical table; None without one.
        unmatched_rows: rows of the clinical table that belong to no slide.
    """

    patients: tuple[Patient, ...]
    columns: tuple[str, ...]
    clinical: ClinicalTable | None
    unmatched_rows: tuple[ClinicalRow, ...]


def join(slides: Sequence[CohortSlide], clinical: ClinicalTable | None) -> Joined:
    """Join slides with their patients and with a clinical table.

    The patient of a slide is that of the manifest, else that of the clinical table. A slide whose
    patient nothing names is a patient of its own. A clinical table of slides also says which slides
    are asked for: others are not listed. A column of the clinical table hides one of the manifest.

    Raises:
        UsageError: if manifest and clinical table name different patients of a slide.
    """
    rows = clinical.rows if clinical else ()
    by_slide = {row.slide_id: row for row in rows if row.slide_id}
    by_patient: dict[str, list[ClinicalRow]] = defaultdict(list)
    for row in rows:
        if not row.slide_id:
            by_patient[row.patient_id].append(row)
    if clinical and clinical.by_slide:
        slides = [s if s.slide_id in by_slide else _not_listed(s) for s in slides]
    owners = {slide.slide_id: _owner(slide, by_slide.get(slide.slide_id)) for slide in slides}
    names = {owner for owner in owners.values() if owner}
    grouped: dict[tuple[str, bool], list[CohortSlide]] = defaultdict(list)
    for slide in slides:
        if owner := owners[slide.slide_id]:
            grouped[owner, True].append(slide)
        else:
            grouped[_own_name(slide.slide_id, names), False].append(slide)
    patients, used = [], set()
    for (patient_id, named), own in sorted(grouped.items()):
        key = patient_id if named else own[0].slide_id
        found = [*by_patient.get(key, ()), *_rows_of(own, by_slide)]
        used |= {row.number for row in found}
        values = _values(found, own, clinical.columns if clinical else ())
        patients.append(Patient(patient_id, tuple(own), named, bool(found), values))
    columns = dict.fromkeys(clinical.columns if clinical else ())
    columns |= dict.fromkeys(sorted({header for slide in slides for header in slide.cells}))
    unmatched = tuple(row for row in rows if row.number not in used)
    return Joined(tuple(patients), tuple(columns), clinical, unmatched)


def _not_listed(slide: CohortSlide) -> CohortSlide:
    """Return a slide that a table of slides does not list; one without a result stays as it is."""
    if not slide.analysed:
        return slide
    message = "the clinical table has no row for this slide"
    return replace(slide, fate="not_listed", reason="no_clinical_row", message=message)


def _owner(slide: CohortSlide, row: ClinicalRow | None) -> str:
    """Name the patient of a slide; "" if nothing names one."""
    other = row.patient_id if row else ""
    if slide.patient_id and other and slide.patient_id != other:
        raise UsageError(
            f"slide {slide.slide_id} is of patient {slide.patient_id!r:.80} in the results, and of "
            f"{other!r:.80} in row {row.number if row else 0} of the clinical table; correct one"
        )
    return slide.patient_id or other


def _own_name(slide_id: str, names: Iterable[str]) -> str:
    """Name of a slide that is a patient of its own, which no other patient has."""
    while slide_id in names:
        slide_id = f"{slide_id} (slide)"
    return slide_id


def _rows_of(
    slides: Sequence[CohortSlide], rows: Mapping[str, ClinicalRow]
) -> Iterator[ClinicalRow]:
    return (rows[slide.slide_id] for slide in slides if slide.slide_id in rows)


def _values(
    rows: Sequence[ClinicalRow], slides: Sequence[CohortSlide], clinical: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Different cells of each column; the clinical table's columns hide those of the manifest."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for header, cell in row.cells.items():
            found[header][cell] = None
    hidden = set(clinical)
    for slide in slides:
        for header, cell in slide.cells.items():
            if header not in hidden:
                found[header][cell] = None
    return {header: tuple(cells) for header, cells in found.items()}
