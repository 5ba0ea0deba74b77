"""Text in the cells of a CSV file, escaped so that no spreadsheet runs it as a formula."""

import re

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]")
"""Start of a cell that a spreadsheet may take for a formula: an operator, also in full width, or a
control character that some programs skip. (OWASP, CSV Injection)"""

_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")


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
