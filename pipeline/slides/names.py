"""Rules for slide ids, which name folders, and for paths, which tables and terminals show."""

import re
import unicodedata

MAX_ID_BYTES = 128
"""Longest slide_id (UTF-8): file systems allow 255 bytes, and results append to it."""

_RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"),
}
"""Names of devices on Windows, also with a suffix behind a dot. (learn.microsoft.com, Naming Files,
Paths, and Namespaces)"""


def slide_id_problem(slide_id: str) -> str | None:
    """Name the reason for which a slide_id cannot name a folder; None if it can."""
    if slide_id.startswith("."):
        return "it begins with a dot"
    if re.search(r'[/\\<>:"|?*\x00-\x1f\x7f]', slide_id):
        return 'it has a control character or one of / \\ < > : " | ? *'
    if not slide_id.isprintable():
        return "it has a character that cannot be printed"
    if len(slide_id.encode()) > MAX_ID_BYTES:
        return f"it is longer than {MAX_ID_BYTES} bytes"
    if slide_id.endswith(".") or slide_id.partition(".")[0].rstrip().upper() in _RESERVED:
        return "Windows does not allow it: it ends with a dot, or names a device there"
    padded = slide_id.strip() != slide_id or not slide_id
    return "it is empty, or begins or ends with a space" if padded else None


def path_problem(path: str) -> str | None:
    """Name the reason for which a path cannot stand in a table or on a terminal; None if it can."""
    kinds = {unicodedata.category(char) for char in path if char != "\t"}
    if "Cs" in kinds:
        return "is not UTF-8"
    return "has a control character or a line break" if kinds & {"Cc", "Zl", "Zp"} else None


def fold_name(name: str) -> str:
    """Convert a name to a form that is equal for names that some file system treats as equal.

    These differ in upper and lower case, or in composed and decomposed letters.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
