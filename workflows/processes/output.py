"""Standard output and error that survive a closed terminal and print no escape sequence."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from noctile.pipeline.untrusted import printable_lines


class ForgivingOutput:
    """Stream that discards text after it was closed (a closed terminal, ``| head``).

    Args:
        file: stream of this process.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write a text, or discard it; a character that the encoding lacks becomes an escape."""
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        with self._discarding():
            self._file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._discarding():
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):  # the stream of a test has no number
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._file.fileno())
                os.close(null)


class EscapedOutput(ForgivingOutput):
    """Stream for text from untrusted files: escape sequences are printed as text.

    Attributes:
        unescaped: the same stream for a program that controls the terminal itself.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self.unescaped = ForgivingOutput(file)

    def write(self, text: str) -> int:
        """Write a text whose characters are printable, line breaks and tabs."""
        super().write("\t".join(map(printable_lines, text.split("\t"))))
        return len(text)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Replace standard output and error by `EscapedOutput` while the context is open."""
    before = sys.stdout, sys.stderr
    escape_output()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def escape_output() -> None:
    """Replace standard output and error by `EscapedOutput`."""
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None:
            setattr(sys, name, cast("TextIO", EscapedOutput(stream)))


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller has closed (``>&-``).

    Otherwise the next file of the run gets the number of the stream, and a library that prints
    would write into a result.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
