"""Untrusted files: text, JSON and TOML, read within limits on time, memory and nesting.

A folder of results or a model may come from another person. A name in it can be a pipe, which never
ends, a link to a device, or a file of terabytes. Text in it can hold terminal escape sequences.
"""

import errno
import io
import json
import os
import stat
import tomllib
from collections.abc import Iterator
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

_SHOWN_CHARS = 2000
"""Largest number of characters of an untrusted text that are shown."""

_OPEN_FLAGS = sum(
    getattr(os, name, 0) for name in ("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
)
"""Flags of `os.open` with which no pipe and no terminal holds up the caller."""


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; a pipe or a device is an error, at once.

    The file is checked after it was opened, so that no other file can take its place in between.

    Args:
        path: the file; links are followed.

    Raises:
        OSError: if the file cannot be opened, or is no regular file.
    """
    handle = os.open(path, _OPEN_FLAGS)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", str(path))


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
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise _too_large(path, most_bytes)
        # in pieces: one call with a limit allocates the limit
        reads = (file.read(_PIECE_BYTES) for _ in range(most_bytes // _PIECE_BYTES + 1))
        pieces = list(takewhile(bool, reads))
    if sum(map(len, pieces)) > most_bytes:
        raise _too_large(path, most_bytes)
    return b"".join(pieces)


def read_lines(path: Path, most_bytes: int, line_bytes: int) -> Iterator[str | None]:
    """Read the lines of a file one by one, in UTF-8; None for a line that is too long.

    Args:
        path: the file; a program may be appending to it.
        most_bytes: largest size of the file (B).
        line_bytes: largest size of a line (B); no longer line is held in memory.

    Raises:
        OSError: if the file cannot be read, is no regular file, or is too large.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise _too_large(path, most_bytes)
        while line := file.readline(line_bytes):
            if line.endswith(b"\n") or len(line) < line_bytes:
                yield line.decode("utf-8", "replace")
                continue
            yield None
            while line and not line.endswith(b"\n"):
                line = file.readline(_PIECE_BYTES)


def printable(text: str) -> str:
    r"""Escape every character that is not printable, and shorten a long text.

    A terminal acts on escape sequences, and a line break can forge a line of output. Both become
    text, such as ``\x1b`` and ``\n``.
    """
    shown = "".join(map(_escape, text[:_SHOWN_CHARS]))
    if max(len(text), len(shown)) <= _SHOWN_CHARS:
        return shown
    return f"{shown[:_SHOWN_CHARS]}..."  # escaping and cutting it again changes nothing


def printable_lines(text: str) -> str:
    """Escape what is not printable in a text of several lines, whose line breaks stay."""
    return "\n".join("".join(map(_escape, line)) for line in text.split("\n"))


def _escape(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _too_large(path: Path, most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"It has more than {most_bytes} bytes", str(path))


def open_private(path: Path) -> io.BufferedReader:
    """Open a file that no other user can have written, in a folder to which others can write.

    Links are not followed, and pipes are not waited for.

    Raises:
        OSError: if the file cannot be read, is no regular file, or if `is_private` is false.
    """
    file = open_regular(path)
    if not path.is_symlink() and is_private(os.fstat(file.fileno())):
        return file
    file.close()
    raise PermissionError(errno.EPERM, "Another user can have written this file", str(path))


def is_private(status: os.stat_result) -> bool:
    """True if this user owns a file and no other user can write to it.

    True on systems without such permissions.
    """
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


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
