"""Types of the manifest's columns: numbers, truth values or dates, if all cells are that."""

import math
import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import pyarrow as pa

from noctile.pipeline.columns import BOOLEAN, CATEGORY, DATE, INTEGER, NUMBER

_WHOLE = r"[+-]?(?:0|[1-9][0-9]*)"
_INTEGER = re.compile(_WHOLE)
_NUMBER = re.compile(
    rf"{_WHOLE}(?:[eE][+-][0-9]+)?|[+-]?(?:0|[1-9][0-9]*)?[.,][0-9]+(?:[eE][+-]?[0-9]+)?"
)
"""Decimal number with a point or a comma. Leading zeros (007) and an exponent behind a whole number
(12E3) mark the name of a block or a patient, not a number."""

_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
"""Number whose comma may separate thousands."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID = re.compile(r"(?:^|[\W_])(?i:id)$|[a-z](?:ID|Id)$")
"""Header of a column with ids: ``case_id``, ``specimenID``."""

_INTEGER_LIMIT, _EXACT_LIMIT = 2**63, 2**53
"""Smallest whole numbers that int64 cannot hold, and that float64 may round."""


def column_type(name: str, cells: Iterable[str]) -> pa.DataType:
    """Return the type of a column of the manifest, the same for all of its cells.

    A column is whole numbers, numbers, truth values (true, false) or ISO dates if all of its
    filled cells are, and text otherwise. Ids are text.

    Args:
        name: header of the column.
        cells: cells of all rows; empty ones do not count.
    """
    filled = {cell for cell in cells if cell}
    if not filled or _ID.search(name):
        return CATEGORY
    tests: dict[pa.DataType, Callable[[set[str]], bool]] = {
        INTEGER: _are_integers,
        NUMBER: _are_numbers,
        BOOLEAN: lambda cells: {cell.casefold() for cell in cells} <= {"true", "false"},
        DATE: lambda cells: all(map(_is_date, cells)),
    }
    return next((kind for kind, fits in tests.items() if fits(filled)), CATEGORY)


def parse_cell(cell: str, kind: pa.DataType) -> Any:
    """Convert a cell to a value of the type of its column; an empty cell to None.

    Raises:
        ValueError: if the cell is not of that type.
    """
    if not cell:
        return None
    if kind == INTEGER:
        return int(cell)
    if kind == NUMBER:
        return float(cell.replace(",", "."))
    if kind == BOOLEAN:
        return cell.casefold() == "true"
    return date.fromisoformat(cell) if kind == DATE else cell


def cell_text(value: Any) -> str:
    """Return the text of a value as a manifest may write it; "" for None."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _are_integers(cells: set[str]) -> bool:
    return all(_is_integer(cell, _INTEGER_LIMIT) for cell in cells)


def _is_integer(cell: str, limit: int) -> bool:
    most_digits = 20
    return (
        len(cell) <= most_digits
        and _INTEGER.fullmatch(cell) is not None
        and -limit <= int(cell) < limit
    )


def _are_numbers(cells: set[str]) -> bool:
    """Tell if all cells are numbers with one decimal sign, which does not separate thousands."""
    if not all(map(_is_number, cells)):
        return False
    with_comma = [cell for cell in cells if "," in cell]
    with_point = any("." in cell for cell in cells)
    thousands = all(map(_THOUSANDS.fullmatch, with_comma))
    return not with_comma or not (with_point or thousands)


def _is_number(cell: str) -> bool:
    if not _NUMBER.fullmatch(cell):
        return False
    if _INTEGER.fullmatch(cell):
        return _is_integer(cell, _EXACT_LIMIT)
    return math.isfinite(parse_cell(cell, NUMBER))


def _is_date(cell: str) -> bool:
    try:
        return _DATE.fullmatch(cell) is not None and bool(date.fromisoformat(cell))
    except ValueError:  # the 30th of February
        return False
