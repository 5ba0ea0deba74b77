"""Text files that somebody else wrote: read and parsed within bounds, so that none takes all memory
or all stack.
"""

import errno
import json
import tomllib
from itertools import takewhile
from pathlib import Path
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting of JSON and TOML; what Noctile reads has less than 10."""

MAX_VALUES = 2**14
"""Most values in settings, class schemes, cards and configs, each of which may turn out wrong in a
way of its own; the shipped card has 116."""

SETTINGS_BYTES, CARD_BYTES = 2**20, 2**24
"""Largest settings and class schemes (B), and largest card and config of a model, which say how it
was trained."""

_PIECE_BYTES = 2**20


def read_text(path: Path, most_bytes: int, encoding: str = "utf-8") -> str:
    """The text of a file.

    Raises:
        OSError: if it cannot be read, is no regular file, or is larger than ``most_bytes``.
        UnicodeDecodeError: if it is not in that encoding.
    """
    return read_bytes(path, most_bytes).decode(encoding).replace("\r\n", "\n")


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: if it cannot be read, is no regular file, or is larger than ``most_bytes``.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "It is no file but a pipe or a device", str(path))
    with path.open(
        "rb"
    ) as file:  # in pieces: to read at most so many bytes takes memory for as many
        pieces = list(
            takewhile(
                bool, (file.read(_PIECE_BYTES) for _ in range(most_bytes // _PIECE_BYTES + 1))
            )
        )
    if sum(map(len, pieces)) > most_bytes:
        raise OSError(errno.EFBIG, f"It has more than {most_bytes} bytes", str(path))
    return b"".join(pieces)


def parse_json(text: str | bytes, most_values: int | None = None) -> Any:
    """The value that JSON text describes.

    Raises:
        ValueError: if it is not JSON, has a number of thousands of digits, is nested more than
            `MAX_DEPTH` deep, or holds more than ``most_values``.
    """
    try:
        return _within_bounds(json.loads(text), most_values)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The table that TOML text describes.

    Raises:
        ValueError: if it is not TOML, has a number of thousands of digits, is nested more than
            `MAX_DEPTH` deep, or holds more than `MAX_VALUES`.
    """
    try:
        values: dict[str, Any] = _within_bounds(tomllib.loads(text), MAX_VALUES)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    return values


def _within_bounds(value: Any, most_values: int | None) -> Any:
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
