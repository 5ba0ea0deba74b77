"""Excel workbook (``.xlsx``) of a table: one sheet with the rows, one with the columns' meaning.

Excel takes the separators of a CSV file from the country of its user. A workbook has types, so that
it opens as it was written, everywhere.
"""

import datetime
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pyarrow as pa

from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.errors import UsageError

if TYPE_CHECKING:
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

MAX_ROWS, MAX_COLUMNS, MAX_CHARS = 2**20, 2**14, 32767
"""Most rows and columns of a sheet, and most characters of a cell, that Excel reads."""

_HEADER_ROWS = 2
_FIRST_DATE = datetime.date(1900, 3, 1)
"""First day that all programs count alike: Excel knows a 29th of February 1900."""

_EXACT = 10**15
"""Numbers from here on lose digits in Excel, which keeps 15."""

_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML, and so Excel, refuses."""

_ERRORS = frozenset(("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A"))
"""Texts that openpyxl takes for errors of a formula."""

_WRITTEN = datetime.datetime(1980, 1, 1)
"""Time in the file, the same for all, so that the same table makes the same bytes."""


def write_workbook(
    table: pa.Table, columns: Sequence[Mapping[str, str]], path: Path, sheet: str = "slides"
) -> None:
    """Write a table as an Excel workbook. The same table makes the same bytes.

    The first row of the sheet has the names of the columns, the second their units. Both stay in
    view, as the first column does.

    Args:
        table: the table.
        columns: ``name``, ``unit`` and ``description`` of each column, as in ``columns.json``.
        path: path of the file.
        sheet: name of the sheet with the rows.

    Raises:
        UsageError: if Excel reads no sheet of this size.
        OSError: if the file cannot be written.
    """
    if table.num_rows + _HEADER_ROWS > MAX_ROWS or table.num_columns > MAX_COLUMNS:
        raise UsageError(
            f"Excel reads {MAX_ROWS} rows and {MAX_COLUMNS} columns, and the table has "
            f"{table.num_rows} rows, {table.num_columns} columns; use slides.parquet or slides.csv"
        )
    from openpyxl import Workbook  # noqa: PLC0415 - takes 0.3 s

    book = Workbook(write_only=True)
    _fill_rows(book.create_sheet(sheet), table, columns)
    _fill_columns(book.create_sheet("columns"), columns)
    with TemporaryFile() as file:
        book.save(file)
        _copy_without_times(file, path)


def _fill_rows(
    sheet: "WriteOnlyWorksheet", table: pa.Table, columns: Sequence[Mapping[str, str]]
) -> None:
    """Write the rows of a table under two rows of headers."""
    from openpyxl.utils import get_column_letter  # noqa: PLC0415

    last = get_column_letter(max(1, table.num_columns))
    sheet.freeze_panes = "B3"
    sheet.auto_filter.ref = f"A{_HEADER_ROWS}:{last}{table.num_rows + _HEADER_ROWS}"
    for number, column in enumerate(columns, 1):
        sheet.column_dimensions[get_column_letter(number)].width = _width(column["name"])
    units = {column["name"]: column["unit"] for column in columns}
    _append_header(sheet, table.column_names)
    _append_header(sheet, [units.get(name, "") for name in table.column_names])
    for row in _rows(table):
        sheet.append([_cell(sheet, value) for value in row])


def _fill_columns(sheet: "WriteOnlyWorksheet", columns: Sequence[Mapping[str, str]]) -> None:
    """Write name, unit and meaning of each column."""
    sheet.freeze_panes = "B2"
    for letter, width in zip("ABC", (36, 10, 100), strict=True):
        sheet.column_dimensions[letter].width = width
    _append_header(sheet, ["name", "unit", "meaning"])
    for column in columns:
        texts = (column["name"], column["unit"], column["description"])
        sheet.append([_cell(sheet, text) for text in texts])


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Rows of a table, a batch at a time."""
    for batch in table.to_batches(max_chunksize=1000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _width(name: str) -> int:
    return max(10, min(40, len(name) + 4))


def _append_header(sheet: "WriteOnlyWorksheet", texts: Iterable[str]) -> None:
    """Append a row of bold texts."""
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415
    from openpyxl.styles import Font  # noqa: PLC0415

    cells = []
    for text in texts:
        cell = WriteOnlyCell(sheet, _escaped(text))
        cell.data_type, cell.font = "s", Font(bold=True)
        cells.append(cell)
    sheet.append(cells)


def _cell(sheet: "WriteOnlyWorksheet", value: Any) -> Any:
    """Convert a value to that of a cell; text that looks like a formula becomes a text cell."""
    if isinstance(value, list):
        value = ";".join(map(str, value))
    if isinstance(value, datetime.date) and value < _FIRST_DATE:
        value = value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        value = str(value)
    return _text_cell(sheet, value) if isinstance(value, str) else value


def _text_cell(sheet: "WriteOnlyWorksheet", text: str) -> Any:
    text = _escaped(text)
    if escape_cell(text) == text and text not in _ERRORS:
        return text
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415

    cell = WriteOnlyCell(sheet, text)
    cell.data_type, cell.quotePrefix = "s", True  # it stays text when a user edits the cell
    return cell


def _escaped(text: str) -> str:
    """Escape characters that Excel refuses, and shorten a text that is too long."""
    shown = _REFUSED.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)
    return shown if len(shown) <= MAX_CHARS else f"{shown[: MAX_CHARS - 3]}..."


def _copy_without_times(file: Any, path: Path) -> None:
    """Copy a workbook, with a fixed time in place of that of its making."""
    from openpyxl.packaging.core import DocumentProperties  # noqa: PLC0415
    from openpyxl.xml.functions import tostring  # noqa: PLC0415

    about = DocumentProperties(creator="noctile", created=_WRITTEN, modified=_WRITTEN)
    with ZipFile(file) as book, ZipFile(path, "w", ZIP_DEFLATED) as target:
        for entry in book.infolist():
            is_about = entry.filename == "docProps/core.xml"
            content = tostring(about.to_tree()) if is_about else book.read(entry)
            target.writestr(ZipInfo(entry.filename), content, ZIP_DEFLATED)
