"""Atomic files: written under a temporary name, synced, then renamed.

None is ever half written, after a kill or a power cut.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import parse_json, read_bytes
from noctile.workflows.engines.base import PASSING_ERRORS
from noctile.workflows.results.durable import sync_file
from noctile.workflows.results.retry import retried

MAX_JSON_BYTES, MAX_JSON_VALUES = 2**27, 2**23
"""Largest JSON file of a result (B), and most values in it. The statistics of a slide of 200,000 x
100,000 pixels with 21 classes have 27 MB and 4 million values. More could take all memory."""

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\..+)?")
"""Pattern of a temporary name: hidden, with the writer's process number."""


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside ``path``, then rename it.

    Readers see the old file or the whole new one, also after a power cut.

    Args:
        path: final path; its folder is created if it does not exist.
        write: writes the file at the path that it is given.

    Raises:
        StoreError: if the file system refuses.
    """
    write_together({path: write})


def write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write files that belong together; none is replaced before all are written.

    Args:
        writers: a function that writes the file, by its final path; see `write_atomic`.

    Raises:
        StoreError: if the file system refuses.
    """
    temporary = {
        path: path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}") for path in writers
    }
    path = Path()
    try:
        for path, write in writers.items():
            retried(partial(_write_synced, temporary[path], write))
        for path in writers:
            retried(partial(temporary[path].replace, path))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; free space or fix its folder"
        ) from error
    finally:
        for left in temporary.values():
            with suppress(OSError):  # the cause of a failed write may also prevent the removal
                left.unlink()


def _write_synced(path: Path, write: Callable[[Path], object]) -> None:
    """Write a whole file, and sync it; a repeated call begins from nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    sync_file(path)


def is_temporary(path: Path) -> bool:
    """Tell if a file has a temporary name: its writer is at work, or was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove temporary files of killed writers. No process may be writing to the folder.

    Raises:
        OSError: if the file system refuses.
    """
    for path in folder.glob(".*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def write_json(path: Path, values: Any, *, compact: bool = False) -> None:
    """Write plain values as JSON, atomically.

    Args:
        path: final path.
        values: plain values.
        compact: True for one line without spaces (many numbers), False for an indented text.

    Raises:
        StoreError: if the file system refuses.
    """
    text = json.dumps(values, separators=(",", ":")) if compact else json_text(values)
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def json_text(values: Any) -> str:
    """Text of plain values as `write_json` writes it."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def read_required_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that the run has written before.

    Raises:
        StoreError: if there is no such file, or it does not hold a JSON object.
    """
    values = read_json(path)
    if values is None:
        raise StoreError(f"{path} has gone while the run was using it; run the same command again")
    return values


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file.

    Raises:
        StoreError: if the file does not hold a JSON object.
    """
    try:
        values: dict[str, Any] = parse_json(retried(partial(_read_limited, path)))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a JSON {type(values).__name__}, not an object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
            found = f"cannot be read: {error.strerror}; fix its disk or its permissions"
        else:
            found = f"is damaged: {error}; delete it to have the slide done again"
        raise StoreError(f"{path} {found}") from error
    return values


def _read_limited(path: Path) -> bytes:
    """Content of a JSON file that is not too large to be parsed.

    Raises:
        OSError: if it cannot be read, is no regular file, or is too large.
        ValueError: if it holds too many values; separators are counted, in texts too.
    """
    content = read_bytes(path, MAX_JSON_BYTES)
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES} values")
    return content


def read_whole_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file, or it is empty, torn or no JSON object.

    Raises:
        StoreError: if the disk cannot read the file.
    """
    try:
        return read_json(path)
    except StoreError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return None
