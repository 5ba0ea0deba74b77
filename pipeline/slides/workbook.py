"""Excel workbooks as tables of text, read within limits."""

import datetime
import io
import warnings
import zipfile
import zlib
from typing import Any
from xml.etree.ElementTree import ParseError

from noctile.pipeline.errors import UsageError

MAGIC = b"PK\x03\x04"
"""First bytes of a workbook, which is a zip archive."""

MAX_UNPACKED_BYTES = 2**27
"""Largest size of the unpacked files of a workbook (B), for about a million slides."""

_EXACT = 2**53
"""Whole numbers up to this one are exact in a workbook."""

_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,  # a way to pack files that zipfile does not know
    OSError,
    ParseError,
    RuntimeError,  # an encrypted archive
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of openpyxl and zipfile for files that are damaged or no workbooks."""


def read_first_sheet(name: str, content: bytes, most_columns: int) -> list[list[str]]:
    """Read the cells of the first sheet of a workbook as text.

    A formula has the value that Excel computed last. A whole number has no decimal point, and a
    date is written as 2026-11-29.

    Args:
        name: name of the file for messages, such as ``manifest a.xlsx``.
        content: content of the file.
        most_columns: largest number of filled columns.

    Returns:
        cells of each row from the first, without the empty cells at the end of a row.

    Raises:
        UsageError: if it is no workbook, or is too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise UsageError(
                f"{name} has {unpacked} bytes when it is unpacked, more than "
                f"{MAX_UNPACKED_BYTES}. Save its first sheet as 'CSV UTF-8'"
            )
        return _rows(name, content, most_columns)
    except _ERRORS as error:
        raise UsageError(
            f"{name} is no Excel workbook that can be read ({error!s:.200}). Save its first sheet "
            "as 'CSV UTF-8'"
        ) from error


def _rows(name: str, content: bytes, most_columns: int) -> list[list[str]]:
    import openpyxl  # noqa: PLC0415 - takes 0.1 s, and only workbooks need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # styles and extensions that openpyxl does not know
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        rows = []
        for row in book.worksheets[0].iter_rows(values_only=True):
            cells = _trimmed([_text(value) for value in row])
            if len(cells) > most_columns:
                raise UsageError(
                    f"{name}: {len(cells)} columns, more than {most_columns}. Name a table with "
                    "one row for each slide"
                )
            rows.append(cells)
        book.close()
    return _trimmed(rows)


def _trimmed(items: list[Any]) -> list[Any]:
    """Drop the empty items at the end of a list."""
    while items and not items[-1]:
        items.pop()
    return items


def _text(value: Any) -> str:
    """Text of a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
