"""Table of a cohort: one row for every slide that was submitted, done or not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv as pc

from noctile.pipeline.columns import (
    CATEGORY,
    FIGURES,
    FLAGS,
    IDENTITY,
    MEASURES,
    ORIGIN,
    REVIEW,
    TEXT,
    Column,
    class_columns,
)
from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.errors import StoreError
from noctile.pipeline.manifest_types import column_type, parse_cell

Status = Literal["done", "failed", "skipped"]

_OF_MANIFEST = ("column ", " of the manifest")
"""Description of a column of the manifest, before and after its header."""


@dataclass(frozen=True, slots=True)
class SlideRow:
    """Result of one slide.

    Attributes:
        slide_id: name of the slide, unique in the cohort.
        path: file or folder of the slide.
        status: done, failed or skipped.
        reason: code of the reason why the slide is not done; empty if it is done.
        message: text that explains the reason; empty if the slide is done.
        run: id of the run that made the row; empty if it is not known.
        patient_id: patient from the manifest, or None.
        group: group from the manifest, or None.
        summary: content of ``summary.json``; empty if the slide is not done.
        seconds: time that the slide's steps took (s), or None.
        extra: names and values of the manifest's other columns.
        review: cells of the columns `noctile.pipeline.columns.REVIEW` that are not empty.
    """

    slide_id: str
    path: Path
    status: Status
    reason: str = ""
    message: str = ""
    run: str = ""
    patient_id: str | None = None
    group: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    extra: tuple[tuple[str, str], ...] = ()
    review: Mapping[str, Any] = field(default_factory=dict)

    @property
    def qc_flags(self) -> list[str] | None:
        """Quality flags of the slide; None if it is not done."""
        flags: list[str] | None = self.summary.get("qc_flags", self.summary.get("flags"))
        return flags  # summaries of earlier versions call them flags


def cohort_table(
    rows: Iterable[SlideRow], class_names: Sequence[str], *, typed: bool = True
) -> pa.Table:
    """Make the table, with one row a slide, sorted by ``slide_id``.

    Figures of slides that are not done are null, never 0. Each field has its unit and description
    in its metadata.

    Args:
        rows: results of the slides, in any order.
        class_names: names of the classes; each has two columns.
        typed: True to give the manifest's columns the types of their cells, False to keep the
            text of each cell.

    Raises:
        StoreError: if a summary holds a value of a wrong type.
    """
    rows = sorted(rows, key=lambda row: row.slide_id)
    filled = [_filled(rows, column) for column in (*IDENTITY, *FIGURES)]
    filled += [(column, [_measure(row, column.name) for row in rows]) for column in MEASURES]
    for name in class_names:
        filled += filled_class([row.summary for row in rows], name)
    filled += [_filled(rows, column) for column in ORIGIN]
    filled += [(column, [row.review.get(column.name) for row in rows]) for column in REVIEW]
    filled += _filled_manifest(rows, {column.name for column, _ in filled}, typed=typed)
    schema = pa.schema([column.field for column, _ in filled])
    return pa.table([_array(rows, *pair) for pair in filled], schema)


def manifest_headers(schema: pa.Schema) -> dict[str, str]:
    """Return the header that each column of a manifest had there, by its name in the table."""
    found = {}
    for field_ in schema:
        about = (field_.metadata or {}).get(b"description", b"").decode()
        if about.startswith(_OF_MANIFEST[0]) and about.endswith(_OF_MANIFEST[1]):
            found[field_.name] = about.removeprefix(_OF_MANIFEST[0]).removesuffix(_OF_MANIFEST[1])
    return found


def write_csv(table: pa.Table, path: Path | BinaryIO) -> None:
    """Write a table as CSV: UTF-8, with a header, and empty cells for null.

    Ids, paths, messages and the manifest's columns are untrusted input. Text that a spreadsheet
    would run as a formula gets an apostrophe in front. Numbers stay as they are, also those of the
    manifest. Lists are joined with semicolons.

    Raises:
        OSError: if the file system refuses.
    """
    names = [escape_cell(name) for name in table.column_names]
    columns = [_csv_column(column) for column in table.columns]
    pc.write_csv(pa.table(columns, names), path, pc.WriteOptions(quoting_style="needed"))


def _csv_column(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if column.type not in (TEXT, CATEGORY, FLAGS):
        return column
    cells = column.to_pylist()
    if column.type == FLAGS:
        cells = [";".join(flags or ()) for flags in cells]
    return pa.array([cell and escape_cell(cell) for cell in cells], TEXT)


_Filled = tuple[Column, list[Any]]
"""A column and the value of each row."""


def _filled(rows: Sequence[SlideRow], column: Column) -> _Filled:
    """Fill a column of the table from rows and their summaries."""
    return column, [_value(row, column.name) for row in rows]


def _value(row: SlideRow, name: str) -> Any:
    if name == "path":  # a name that is not UTF-8 has surrogates, which no table can hold
        return str(row.path).encode("utf-8", "backslashreplace").decode()
    if name in ("mpp_y", "mpp_x"):
        return row.summary.get("mpp", (None, None))[name == "mpp_x"]
    if name in SlideRow.__slots__ or name == "qc_flags":
        value = getattr(row, name)
        return None if value == "" else value
    return row.summary.get(name)


def _measure(row: SlideRow, name: str) -> Any:
    """Spatial measure of a slide; None in summaries of versions that had none."""
    return row.summary.get("measures", {}).get(name)


def filled_class(figures: Sequence[Mapping[str, Any]], name: str) -> Iterator[_Filled]:
    """Fill the columns of one class: its area (mm2) and its share of the tissue (0..1).

    Args:
        figures: summary of each slide, or figures of each region.
        name: name of the class.
    """
    areas = [one.get("class_area_mm2", {}).get(name) for one in figures]
    tissue = [one.get("tissue_area_mm2") for one in figures]
    shares = [
        round(a / t, 6) if a is not None and t else None for a, t in zip(areas, tissue, strict=True)
    ]
    yield from zip(class_columns(name), (areas, shares), strict=True)


def _filled_manifest(
    rows: Sequence[SlideRow], taken: set[str], *, typed: bool
) -> Iterator[_Filled]:
    """Fill the other columns of the manifest, each under a name that is free."""
    extras = [dict(row.extra) for row in rows]
    for header in sorted({name for extra in extras for name in extra}):
        name = header
        while name in taken:
            name = f"manifest_{name}"
        taken.add(name)
        cells = [extra.get(header, "") for extra in extras]
        kind = column_type(header, cells) if typed else CATEGORY
        column = Column(name, kind, header.join(_OF_MANIFEST))
        yield column, [parse_cell(cell, kind) for cell in cells]


def _array(rows: Sequence[SlideRow], column: Column, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        wrong = next(i for i, value in enumerate(values) if not _fits(value, column.type))
        raise StoreError(
            f"slide {rows[wrong].slide_id}: its summary.json holds {column.name} = "
            f"{values[wrong]!r:.80}, which is no {column.type_name}; run the same command with "
            "--redo"
        ) from error


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True
