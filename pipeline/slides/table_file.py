"""Tables that users write, as CSV or Excel workbooks: manifests and clinical tables."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.workbook import MAGIC, read_first_sheet
from noctile.pipeline.untrusted import read_bytes

_DELIMITERS = ",;\t"

MAX_BYTES, MAX_COLUMNS = 256 * 2**20, 1_000
"""Largest size of such a file (B), for a million rows of 256 characters, and most columns."""


def read_table_file(kind: str, file: Path) -> list[list[str]]:
    """Read the cells of a table as text.

    A table is UTF-8 text, whose columns commas, semicolons or tabs separate, or the first sheet of
    an Excel workbook. Cells have no spaces around them.

    Args:
        kind: kind of the table for messages, such as ``manifest``.
        file: the file.

    Returns:
        cells of each row, the header first, without the empty cells at the end of a row.

    Raises:
        UsageError: if the file cannot be read, or is no such table.
    """
    name = f"{kind} {file}"
    try:
        content = read_bytes(file, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
    if content.startswith(MAGIC):
        return read_first_sheet(name, content, MAX_COLUMNS)
    return _read_csv(name, content)


def check_header(kind: str, file: Path, header: Sequence[str]) -> list[str]:
    """Check that each column has a name of its own, and return the names as they are compared.

    Returns:
        the names in lower case, with ``_`` for spaces and hyphens.

    Raises:
        UsageError: if a column has no name of its own, or there are too many columns.
    """
    if len(header) > MAX_COLUMNS:
        raise UsageError(
            f"{kind} {file}: {len(header)} columns, more than {MAX_COLUMNS}. Name a CSV file "
            "with one row for each slide"
        )
    if len(set(header)) < len(header) or not all(header):
        raise UsageError(
            f"{kind} {file}: the header names a column twice, or leaves one unnamed: "
            f"{header!s:.500}. Give each column a name of its own"
        )
    return [re.sub(r"[\s-]+", "_", name.casefold()) for name in header]


def filled_row(location: str, cells: Sequence[str], columns: int) -> list[str]:
    """Return a cell for each column; those that a row lacks at its end are empty.

    Args:
        location: file and row for messages.
        cells: cells of the row.
        columns: number of columns.

    Raises:
        UsageError: if the row has more cells than there are columns.
    """
    if len(cells) > columns:
        raise UsageError(
            f"{location}: {len(cells)} cells, but {columns} columns; quote cells that hold the "
            "delimiter"
        )
    return [*cells, *[""] * (columns - len(cells))]


def _read_csv(name: str, content: bytes) -> list[list[str]]:
    """Cells of each row of a CSV file."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text ({error}); save it as 'CSV UTF-8' or as .xlsx"
        ) from error
    header = next(iter(text.splitlines()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [_trimmed(line) for line in lines]
    except csv.Error as error:
        raise UsageError(
            f"{name}, line {lines.line_num}: {error}. Correct the quotes of that line"
        ) from error


def _trimmed(line: list[str]) -> list[str]:
    """Strip the cells, and drop the empty ones that spreadsheets leave at the end of a line."""
    cells = [cell.strip() for cell in line]
    while cells and not cells[-1]:
        cells.pop()
    return cells
