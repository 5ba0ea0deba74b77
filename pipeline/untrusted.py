"""Text, JSON and TOML from untrusted files, read within limits on memory and nesting."""

import errno
import json
import tomllib
from itertools import takewhile
from pathlib import Path
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting of JSON and TOML. The files that Noctile writes have less than 10 levels."""

MAX_VALUES = 2**14
"""Most values in settings, class schemes, cards and configs. Each of them may cause an error
message of its own. The shipped card has 116."""

SETTINGS_BYTES, CARD_BYTES = 2**20, 2**24
"""Largest settings and class schemes (B), and largest card and config of a model (B). A card also
describes the training."""

_PIECE_BYTES = 2**20


def read_text(path: Path, most_bytes: int, encoding: str = "utf-8") -> str:
    """Read a text file; each line ends in one line feed.

    Args:
        path: the file.
        most_bytes: largest size of the file (B).
        encoding: encoding of the text.

    Raises:
        OSError: if the file cannot be read, is no regular file, or is too large.
        UnicodeDecodeError: if the text has another encoding.
    """
    return read_bytes(path, most_bytes).decode(encoding).replace("\r\n", "\n")


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Read a file.

    Args:
        path: the file.
        most_bytes: largest size of the file (B).

    Raises:
        OSError: if the file cannot be read, is no regular file, or is too large.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", str(path))
    with path.open("rb") as file:  # in pieces: one call with a limit allocates the limit
        reads = (file.read(_PIECE_BYTES) for _ in range(most_bytes // _PIECE_BYTES + 1))
        pieces = list(takewhile(bool, reads))
    if sum(map(len, pieces)) > most_bytes:
        raise OSError(errno.EFBIG, f"It has more than {most_bytes} bytes", str(path))
    return b"".join(pieces)


def parse_json(text: str | bytes, most_values: int | None = None) -> Any:
    """Parse JSON text.

    Args:
        text: the text.
        most_values: largest number of values in it; None for no limit.

    Raises:
        ValueError: if the text is not JSON, has a number of thousands of digits, is nested deeper
            than `MAX_DEPTH`, or holds too many values.
    """
    try:
        return _within_limits(json.loads(text), most_values)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML text.

    Raises:
        ValueError: if the text is not TOML, has a number of thousands of digits, is nested deeper
            than `MAX_DEPTH`, or holds more than `MAX_VALUES`.
    """
    try:
        values: dict[str, Any] = _within_limits(tomllib.loads(text), MAX_VALUES)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    return values


def _within_limits(value: Any, most_values: int | None) -> Any:
    """Return a parsed value, or raise a ValueError if it is nested too deep or too large."""
    level, depth, count = [value] if isinstance(value, dict | list) else [], 0, 0
    while level:
        depth, count = depth + 1, count + sum(map(len, level))
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if most_values and count > most_values:
            raise ValueError(f"it holds more than {most_values} values")
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
    return value
