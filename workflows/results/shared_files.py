"""Files that several people write at once: a lock, a history, and replacement as a whole.

Reviews and audits are made of such files, which note times and the results that they belong to.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.durable import sync_names
from noctile.workflows.results.files import read_whole_json, write_atomic
from noctile.workflows.results.layout import SlideFolder

if sys.platform != "win32":
    import fcntl

_OWN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags of `os.open` with which no link leads out of the folder, and no pipe makes it wait."""


def time_text(now: datetime) -> str:
    """Time of a review, an answer or a design as its file has it: in UTC, to the second, with Z."""
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def result_key(folder: SlideFolder) -> str:
    """Content key of the result of a slide, which its reviews and points belong to; "" for none.

    Raises:
        StoreError: if the disk cannot read the summary of the slide.
    """
    return str((read_whole_json(folder.summary) or {}).get("key", ""))


@contextmanager
def locked(folder: Path, *files: Path) -> Iterator[None]:
    """Hold the lock of a folder; other processes and threads wait.

    Args:
        folder: the folder; it is made if it does not exist.
        files: files that are written under the lock.

    Raises:
        StoreError: if the folder or a file is a link, or the file system refuses.
    """
    refuse_links(folder, *files)
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | _OWN, 0o666)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        _wait_for_lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, folder: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be locked: {error.strerror or error}; copy the results to a file "
                "system that supports locks (flock)"
            ) from error


def refuse_links(*paths: Path) -> None:
    """Check that no path is a link, which may lead out of the folder of results.

    Raises:
        StoreError: if one is.
    """
    for path in paths:
        if path.is_symlink():
            raise StoreError(
                f"{path} is a link, which Noctile does not follow; replace it by the file or folder"
            )


def damage(path: Path, error: Exception) -> StoreError:
    """Error for a file that cannot be used, and that is not replaced."""
    return StoreError(f"{path} cannot be read: {error}; mend it, or move it away")


def remember(history: Path, events: list[Mapping[str, Any]]) -> None:
    """Append events to a history, one JSON object a line; they are on the disk afterwards.

    A line that a killed process left unfinished is ended first.

    Args:
        history: file of the history, in a folder whose lock is held.
        events: plain values.

    Raises:
        StoreError: if the file system refuses, or the history is a link or no file.
    """
    lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    refuse_links(history)
    try:
        handle = os.open(history, os.O_RDWR | os.O_CREAT | os.O_APPEND | _OWN, 0o666)
        try:
            size = os.fstat(handle).st_size
            torn = size and os.pread(handle, 1, size - 1) != b"\n"
            text = (b"\n" if torn else b"") + lines.encode("utf-8", "backslashreplace")
            while text:
                text = text[os.write(handle, text) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{history} cannot be written: {error.strerror or error}") from error


def replace_text(path: Path, text: str, root: Path) -> None:
    """Replace a file by a text; it and its name are on the disk afterwards.

    Args:
        path: the file.
        text: its new content.
        root: folder of results, up to which names are synced.

    Raises:
        StoreError: if it is a link, or the file system refuses.
    """
    refuse_links(path)
    write_atomic(path, partial(Path.write_text, data=text, encoding="utf-8"))
    try:
        sync_names([path], root)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
