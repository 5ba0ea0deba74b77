"""Lock and history of the reviews in a folder of results."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.layout import ResultsFolder

if sys.platform != "win32":
    import fcntl

_OWN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags of `os.open` with which no link leads out of the folder, and no pipe makes it wait."""


@contextmanager
def reviews_locked(results: ResultsFolder) -> Iterator[None]:
    """Hold the lock of all reviews of a folder; other processes and threads wait.

    Raises:
        StoreError: if a part of the reviews is a link, or the file system refuses.
    """
    folder = results.review
    refuse_links(folder, results.review_csv)
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | _OWN, 0o666)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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


def remember(results: ResultsFolder, event: Mapping[str, Any]) -> None:
    """Append an event to the history; it is on the disk afterwards.

    A line that a killed process left unfinished is ended first.

    Args:
        results: the folder, whose lock is held.
        event: plain values.

    Raises:
        StoreError: if the file system refuses, or the history is a link or no file.
    """
    path, line = results.review_history, json.dumps(event, ensure_ascii=False) + "\n"
    refuse_links(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _OWN, 0o666)
        try:
            size = os.fstat(handle).st_size
            torn = size and os.pread(handle, 1, size - 1) != b"\n"
            text = (b"\n" if torn else b"") + line.encode("utf-8", "backslashreplace")
            while text:
                text = text[os.write(handle, text) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
