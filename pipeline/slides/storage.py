"""Reading errors of storage: they are not the slide's fault, and may pass."""

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.errors import StorageError
from noctile.pipeline.slides.fingerprint import slide_files
from noctile.pipeline.untrusted import open_regular

_NAMES = (
    *("EIO", "EREMOTEIO", "ENXIO", "ENODEV", "ESTALE", "ETIMEDOUT", "EINTR", "EAGAIN"),
    *("ENOTCONN", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
)

STORAGE_ERRORS = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Error numbers of a disk or a network that does not answer, or answers with an error."""

_TEXTS = tuple(os.strerror(number) for number in sorted(STORAGE_ERRORS))
"""Texts of these errors, as libraries quote them without the number."""

_SAMPLES, _SAMPLE_BYTES = 8, 4096
"""Number of pieces that a probe reads of each file, evenly spread, and their size (B)."""

_MAX_FILES = 8
"""Largest number of files of one slide that a probe reads."""

_GOOD_FOR_S = 5.0
"""Time for which a probe without errors is not repeated (s): a damaged slide has many bad tiles."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of reading a few bytes of a slide's files.

    Attributes:
        samples: number of pieces that were tried.
        failed: number of pieces that met an error of storage.
        error: first of these errors; None if there was none.
    """

    samples: int
    failed: int
    error: OSError | None


def probe(path: Path) -> Probe:
    """Read a few bytes of all parts of a slide's files, from the disk and not from memory.

    Other errors, such as a missing file, do not count.
    """
    results = list(_samples(path))
    errors = [error for error in results if error]
    return Probe(len(results), len(errors), errors[0] if errors else None)


class Storage:
    """Tells errors of the storage of a slide from errors of its content.

    Args:
        slide_id: name of the slide, for messages.
        path: file of the slide.
    """

    def __init__(self, slide_id: str, path: Path) -> None:
        self._slide_id, self._path = slide_id, path
        self._good_until = 0.0

    def error_behind(self, error: Exception) -> StorageError | None:
        """Make the error to raise in place of another one; None if storage did not cause it.

        Libraries do not always hand over the error number. Then the file is probed.

        Args:
            error: error of a reader.
        """
        cause = storage_cause(error) or self._probe()
        if cause is None:
            return None
        return StorageError(f"slide {self._slide_id}: {self._path} cannot be read: {cause}")

    def _probe(self) -> str | None:
        now = time.monotonic()
        if now < self._good_until:
            return None
        if error := probe(self._path).error:
            return os.strerror(error.errno or 0)
        self._good_until = now + _GOOD_FOR_S
        return None


def storage_cause(error: BaseException) -> str | None:
    """Text of the error of storage that caused an error; None if there is none."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in STORAGE_ERRORS:
            return os.strerror(link.errno or 0)
        if text := next((text for text in _TEXTS if text in str(link)), None):
            return text
        link = link.__cause__
    return None


def _samples(path: Path) -> Iterator[OSError | None]:
    """Error of storage of each piece that is read, None for a piece without one."""
    try:
        files = slide_files(path)
    except OSError as error:
        yield error if error.errno in STORAGE_ERRORS else None
        return
    for file in files[:: -(-len(files) // _MAX_FILES)]:
        try:
            opened = open_regular(file)
        except OSError as error:
            yield error if error.errno in STORAGE_ERRORS else None
            continue
        with opened:
            size = os.fstat(opened.fileno()).st_size
            for k in range(_SAMPLES):
                offset = max(0, size - _SAMPLE_BYTES) * k // (_SAMPLES - 1)
                yield _sample(opened.fileno(), offset)


def _sample(handle: int, offset: int) -> OSError | None:
    try:
        if hasattr(os, "posix_fadvise"):  # pages in memory would hide that the disk has gone
            os.posix_fadvise(handle, offset, _SAMPLE_BYTES, os.POSIX_FADV_DONTNEED)
        os.pread(handle, _SAMPLE_BYTES, offset)
    except OSError as error:
        return error if error.errno in STORAGE_ERRORS else None
    return None
