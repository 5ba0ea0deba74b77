"""Clinical table: a row for each patient or slide, with groups, grades, times and events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.manifest import ALIASES
from noctile.pipeline.slides.table_file import check_header, filled_row, read_table_file
from noctile.pipeline.wrong_values import did_you_mean

KIND: Final = "clinical table"


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """One row of a clinical table.

    Attributes:
        number: number of the row; the header is row 1.
        slide_id: slide of the row; "" in a table of patients.
        patient_id: patient of the row; "" if the table names none.
        cells: cell of each other column, by header; empty ones are left out.
    """

    number: int
    slide_id: str
    patient_id: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        """Id by which the row is joined."""
        return self.slide_id or self.patient_id


@dataclass(frozen=True, slots=True)
class ClinicalTable:
    """Rows of a clinical table.

    Attributes:
        file: file of the table.
        by_slide: True if each row is a slide, False if each is a patient.
        key: header of the column by which rows are joined.
        columns: headers of the columns that are no ids.
        rows: the rows.
    """

    file: Path
    by_slide: bool
    key: str
    columns: tuple[str, ...]
    rows: tuple[ClinicalRow, ...]


def read_clinical(file: Path, patient: str | None = None) -> ClinicalTable:
    """Read a clinical table, CSV or .xlsx.

    With a column ``slide_id``, each row is a slide, and a column of patients tells its patient.
    Without one, each row is a patient.

    Args:
        file: the file.
        patient: header of the column with the patients; None for ``patient_id``, ``patient`` or
            ``case_id``.

    Raises:
        UsageError: if the file cannot be read, has no column with ids, or a row cannot be used.
    """
    table = read_table_file(KIND, file)
    header = table[0] if table else []
    folded = check_header(KIND, file, header)
    slide, owner = (_position(folded, ALIASES[name]) for name in ("slide_id", "patient_id"))
    if patient is not None:
        if patient not in header:
            near = did_you_mean(patient, header)
            raise UsageError(
                f"{KIND} {file} has no column {patient!r:.80}{near}: {_listed(header)}"
            )
        owner = header.index(patient)
        slide = None if slide == owner else slide
    if slide is None and owner is None:
        raise UsageError(
            f"{KIND} {file}: no column slide_id or patient_id in its header: {_listed(header)}. "
            "Name the column of the patients with --patient"
        )
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        if cells:
            filled = filled_row(f"{KIND} {file}, row {number}", cells, len(header))
            rows.append(_row(file, number, header, filled, (slide, owner)))
    _check(file, rows)
    key = owner if slide is None else slide
    others = tuple(name for k, name in enumerate(header) if k not in (slide, owner))
    return ClinicalTable(file, slide is not None, header[key or 0], others, tuple(rows))


def _position(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _row(
    file: Path,
    number: int,
    header: Sequence[str],
    cells: Sequence[str],
    ids: tuple[int | None, int | None],
) -> ClinicalRow:
    slide, owner = ("" if k is None else cells[k] for k in ids)
    others = {
        name: cell for k, (name, cell) in enumerate(zip(header, cells, strict=True)) if k not in ids
    }
    row = ClinicalRow(number, slide, owner, {name: cell for name, cell in others.items() if cell})
    if not (owner if ids[0] is None else slide):
        raise UsageError(f"{KIND} {file}, row {number} has no id; fill it in, or remove the row")
    return row


def _check(file: Path, rows: Sequence[ClinicalRow]) -> None:
    """Check that there are rows, and one for each slide."""
    if not rows:
        raise UsageError(f"{KIND} {file} has no rows; add one for each patient or slide")
    seen: dict[str, int] = {}
    for row in rows:
        if row.slide_id and (first := seen.setdefault(row.slide_id, row.number)) != row.number:
            raise UsageError(
                f"{KIND} {file}, row {row.number}: slide {row.slide_id!r:.80} stands in row "
                f"{first} too; remove one of both"
            )


def _listed(header: Sequence[str]) -> str:
    return ", ".join(f"{name:.60}" for name in header[:30]) or "it is empty"
