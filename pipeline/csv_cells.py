"""Cells of CSV files: escaped so that no spreadsheet runs a formula, and read within limits."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from noctile.pipeline.untrusted import read_bytes

MAX_CELLS = 2**26
"""Most cells of a CSV file that is read."""

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]")
"""Start of a cell that a spreadsheet may take for a formula: an operator, also in full width, or a
control character that some programs skip. (OWASP, CSV Injection)"""

_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")


def read_csv(path: Path, most_bytes: int) -> Iterator[list[str]]:
    """Read the lines of a CSV file as they stand in it, one by one.

    Args:
        path: path of the file, in UTF-8.
        most_bytes: largest size of the file (B).

    Raises:
        OSError: if it cannot be read, is no regular file, or is too large.
        ValueError: if it is no CSV file, or has more than `MAX_CELLS`.
    """
    content = read_bytes(path, most_bytes)
    if content.count(b",") + content.count(b"\n") > MAX_CELLS:
        raise ValueError(f"it has more than {MAX_CELLS} cells")
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    try:
        yield from csv.reader(text, strict=True)
    except csv.Error as error:
        raise ValueError(f"it is no CSV file: {error}") from error


def escape_cell(text: str) -> str:
    """Put an apostrophe in front of a text that a spreadsheet may run as a formula.

    A text that starts with apostrophes before a formula gets one more, so that `unescape_cell`
    restores every text.
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape_cell(cell: str) -> str:
    """Restore the text from which `escape_cell` made a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and not _NUMBER.fullmatch(text)
