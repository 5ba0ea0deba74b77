"""Log of all runs in a folder: each line that a run printed, with its time, in ``run.log``."""

import io
import os
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from noctile.pipeline.untrusted import printable

_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe without a reader is an error, and no wait
    | getattr(os, "O_CLOEXEC", 0)
)


def stamped(text: str, now: datetime) -> str:
    r"""Return the lines of a text, each with the time in front, as ISO 8601 with the time zone.

    Control characters become text, such as ``\x1b``.

    Args:
        text: one line or several.
        now: time of the lines, with its time zone.
    """
    time = now.isoformat(timespec="seconds")
    return "".join(f"{time} {printable(line)}\n" for line in text.splitlines())


class RunLog:
    """Log that every run in a folder appends to. It is for readers; no program depends on it.

    A log that cannot be written ends no run: the cause, such as a full disk, stops the run where
    results are written. A link or a pipe in its place is left alone.

    Args:
        path: path of the log; the file is created with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str, now: datetime | None = None) -> None:
        """Append lines.

        Args:
            text: one line or several.
            now: time of the lines, with its time zone; None for the present time.
        """
        data = stamped(text, now or datetime.now().astimezone())
        with suppress(OSError), _opened(self._path) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.write(data.encode("utf-8", "backslashreplace"))


def _opened(path: Path) -> io.FileIO:
    return io.FileIO(os.open(path, _FLAGS, 0o666), "w")
