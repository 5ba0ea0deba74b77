"""Checks of the cohort's tables: against each other, the run's counts, and each slide's summary."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.columns import REVIEW
from noctile.pipeline.csv_cells import read_csv
from noctile.pipeline.errors import StoreError
from noctile.pipeline.manifest_types import parse_cell
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.parquet import MAX_BYTES, read_parquet
from noctile.pipeline.region_table import region_table
from noctile.pipeline.slides.names import slide_id_problem
from noctile.workflows.commands.status import current_run
from noctile.workflows.commands.verify_faults import (
    DELETE,
    MEND_AUDIT,
    MEND_REVIEWS,
    WRITE_TABLES_AGAIN,
    Fault,
)
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.files import is_temporary
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import read_ledger
from noctile.workflows.results.standing import Standing

Row = dict[str, Any]

_NOT_FROM_SUMMARY = {
    "slide_id",
    "path",
    "patient_id",
    "group",
    "status",
    "reason",
    "message",
    "run",
    "seconds",
    *(column.name for column in REVIEW),
}
"""Columns of the cohort's table that do not come from a slide's summary."""

_NAMED_SLIDES = 5
"""Number of slides that are named where many rows of a table are wrong."""


def read_tables(out: Path) -> tuple[dict[str, Row], list[Fault]]:
    """Read the rows of ``slides.parquet`` by slide_id, and check both tables.

    The tables must equal what stands in the folder. Both results are empty while a run is at work,
    because its tables lag behind.
    """
    parquet, text = out / "slides.parquet", out / "slides.csv"
    run = current_run(out)
    if run and run.alive:
        return {}, []
    faults = [*_files_missing_or_left(out, (parquet, text)), *_audit_faults(out)]
    if not parquet.exists():
        return {}, faults
    try:
        table = read_parquet(parquet, ("slide_id", "path", "status"))
    except StoreError as error:
        what = f"cannot be read: {error.__cause__ or error}"
        return {}, [*faults, _table_fault(parquet.name, what)]
    found = {row["slide_id"]: row for row in table.to_pylist()}
    rows = {i: row for i, row in found.items() if isinstance(i, str) and not slide_id_problem(i)}
    if len(rows) < len(found):
        faults.append(_table_fault(parquet.name, "has a slide_id that cannot name a folder"))
    if len(found) < len(table):
        faults.append(_table_fault(parquet.name, "names a slide twice"))
    try:
        if text.exists():
            faults += _csv_faults(table, text)
        faults += _standing_faults(out, rows)
    except (OSError, ValueError, StoreError) as error:
        faults.append(_table_fault(f"{text.name}, {parquet.name}", f"cannot be read: {error}"))
    return rows, faults


def check_row(
    slide_id: str, row: Row, summary: dict[str, Any], classes: tuple[ClassInfo, ...]
) -> Iterator[Fault]:
    """Compare a row of the cohort's table with the summary of its slide.

    Args:
        slide_id: id of the slide.
        row: row of the slide in ``slides.parquet``.
        summary: summary of the slide, as the masks require it.
        classes: classes of the label map.
    """
    source = SlideRow(slide_id, Path(str(row["path"])), "done", summary=summary)
    expected = cohort_table([source], [info.name for info in classes]).to_pylist()[0]
    if "flags" in row and "qc_flags" not in row:  # the name and form in earlier versions
        row = {**row, "qc_flags": [flag for flag in str(row["flags"]).split(";") if flag]}
    for name in expected.keys() - _NOT_FROM_SUMMARY:
        if name not in row or row[name] != expected[name]:
            what = f"has {name} = {row.get(name)} for {slide_id}, but its folder {expected[name]}"
            yield _table_fault("slides.parquet", what)


def _table_fault(name: str, what: str) -> Fault:
    return Fault(name, what, WRITE_TABLES_AGAIN)


def _files_missing_or_left(out: Path, expected: Sequence[Path]) -> Iterator[Fault]:
    """Tables that are missing, and temporary files of killed writers."""
    for path in expected:
        if not path.exists():
            yield _table_fault(path.name, "is missing")
    folders = ("review", "review/.areas", "audit", ".measures")
    hidden = (path for folder in folders for path in out.glob(f"{folder}/.*"))
    for path in (*out.iterdir(), *hidden):
        if is_temporary(path):
            name = path.relative_to(out).as_posix()
            yield Fault(name, "was left by a writer that was killed", DELETE)


def _standing_faults(out: Path, rows: Mapping[str, Row]) -> Iterator[Fault]:
    """Rows of ``slides.parquet`` that are missing, or differ from what stands in the folder."""
    results = ResultsFolder(out)
    standing = Standing(results, read_ledger(results.ledger), reads_only=True)
    standing_rows, class_names = standing.rows(), standing.class_names()
    table = cohort_table(standing_rows, class_names)
    expected = {str(row["slide_id"]): row for row in table.to_pylist()}
    yield from _region_faults(results, region_table(standing_rows, class_names))
    for what in standing.review_faults:
        yield Fault("review", f"cannot be used: {what}", MEND_REVIEWS)
    if missing := sorted(expected.keys() - rows.keys()):
        yield _table_fault("slides.parquet", f"has no row for {_names(missing)}")
    if surplus := sorted(rows.keys() - expected.keys()):
        yield _table_fault("slides.parquet", f"has a row for {_names(surplus)}, not in this folder")
    shared = sorted(expected.keys() & rows.keys())
    from_summary = set(cohort_table([], class_names).column_names) - _NOT_FROM_SUMMARY
    for name in table.column_names:
        if name in from_summary:  # `check_row` compares these with the masks
            continue
        if wrong := [i for i in shared if rows[i].get(name) != expected[i][name]]:
            what = f"has another {name} than the folder for {_names(wrong)}"
            yield _table_fault("slides.parquet", what)


def _audit_faults(out: Path) -> Iterator[Fault]:
    """Files of the audit that cannot be used."""
    audits = Audits(ResultsFolder(out))
    try:
        if audits.exists():
            audits.answers()
    except StoreError as error:
        yield Fault("audit", f"cannot be used: {error}", MEND_AUDIT)


def _region_faults(results: ResultsFolder, expected: pa.Table) -> Iterator[Fault]:
    """Tables of regions of interest that differ from what stands in the folder.

    Raises:
        OSError: if a file cannot be read.
        StoreError: if the table is no such table.
        ValueError: if the CSV file is none.
    """
    parquet, text = results.regions_parquet, results.regions_csv
    missing = [path.name for path in (parquet, text) if not path.exists()]
    if len(missing) == 2 and not expected.num_rows:
        return
    if missing:
        yield from (_table_fault(name, "is missing") for name in missing)
        return
    found = read_parquet(parquet, ("slide_id", "region"))
    if found.to_pylist() != expected.to_pylist():
        yield _table_fault(parquet.name, "differs from the regions of the slides in this folder")
    if _csv_differs(expected, text):
        yield _table_fault(text.name, "differs from the regions of the slides in this folder")


def _csv_differs(expected: pa.Table, text: Path) -> bool:
    """Tell if a CSV file holds other cells than a table."""
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / text.name
        write_csv(expected, again)
        return list(read_csv(again, MAX_BYTES)) != list(read_csv(text, MAX_BYTES))


def _csv_faults(table: pa.Table, text: Path) -> Iterator[Fault]:
    """Rows of ``slides.csv`` that are missing, or differ from ``slides.parquet``.

    Raises:
        OSError: if the file cannot be read, or is far larger than the same table is here.
        ValueError: if it is no CSV file.
    """
    with tempfile.TemporaryDirectory() as folder:
        again, kinds = Path(folder) / text.name, table.schema.types
        write_csv(table, again)
        most_bytes = 4 * again.stat().st_size + 2**20  # a manifest may write 0.50000 for 0.5
        expected, found = (_csv_rows(path, kinds, most_bytes) for path in (again, text))
    if missing := sorted(expected.keys() - found.keys()):
        what = f"has no row for {_names(missing)}, in contrast to slides.parquet"
        yield _table_fault(text.name, what)
    if different := [name for name in sorted(found) if found[name] != expected.get(name)]:
        what = f"differs from slides.parquet in the row for {_names(different)}"
        yield _table_fault(text.name, what)


def _csv_rows(text: Path, kinds: Sequence[pa.DataType], most_bytes: int) -> dict[str, list[Any]]:
    """The header and the rows of a CSV file, by their first cell.

    Numbers, truth values and dates are compared by their value: the manifest may write 0.50.
    """
    return {
        row[0]: [_cell_value(cell, kind) for cell, kind in zip_longest(row, kinds)]
        for row in read_csv(text, most_bytes)
        if row
    }


def _cell_value(cell: str | None, kind: pa.DataType | None) -> Any:
    try:
        return parse_cell(cell or "", kind)
    except ValueError:  # the header, or damage
        return cell


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_SLIDES} more" if len(names) > _NAMED_SLIDES else ""
    return ", ".join(names[:_NAMED_SLIDES]) + more
