"""Output of one command: progress, results, warnings, and a log, as the user asked for them."""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from noctile.pipeline.errors import NoctileError, UsageError
from noctile.pipeline.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from noctile.workflows.results.run_log import RunLog


class Printer:
    """Output of one command.

    Progress has the time in front where it goes into a file or a pipe. With ``--json`` standard
    output gets one document and nothing else; all other lines go to standard error.

    Args:
        quiet: True shows warnings and failures only.
        verbose: True also shows details.
        as_json: True prints the result as a JSON document.
        log_file: file to which every line is appended with its time; None for no file.

    Attributes:
        quiet: True if only warnings and failures are shown.
        verbose: True if details are shown too.
        as_json: True if the result is printed as a JSON document.

    Raises:
        UsageError: if the log file cannot be written.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        as_json: bool = False,
        log_file: Path | None = None,
    ) -> None:
        self.quiet, self.verbose, self.as_json = quiet and not verbose, verbose, as_json
        self._console: Console | None = None
        self._log = _open_log(log_file) if log_file else None
        self._run_log: RunLog | None = None
        self._early: list[tuple[datetime, str]] = []  # lines before the log of the run is open

    def __enter__(self) -> "Printer":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, NoctileError):
            self._keep(f"error: {error}")
        if self._log:
            with suppress(OSError):  # a full disk
                self._log.close()

    @property
    def console(self) -> "Console":
        """Terminal, file or pipe to which lines are printed."""
        if self._console is None:
            from noctile.console.display import open_console

            self._console = open_console(sys.stderr if self.as_json else sys.stdout)
        return self._console

    @property
    def width(self) -> int:
        """Number of columns of the terminal."""
        return self.console.width

    def log_to(self, log: "RunLog") -> None:
        """Also append results to the log of a run, after the lines that were printed before it."""
        self._run_log = log
        for time, text in self._early:
            log.write(text, time)
        self._early.clear()

    def progress(self, text: str, shown: str = "", *, detail: bool = False) -> None:
        """Print a line about the work that goes on.

        Args:
            text: the line, as the log file has it.
            shown: a shorter line for the terminal; "" for the same.
            detail: True for a line that only ``--verbose`` shows; a log file has it always.
        """
        self._keep_in_file(text)
        if not self.quiet and (self.verbose or not detail):
            time = "" if self.console.is_terminal else f"{datetime.now():%H:%M:%S} "
            self._print(time + (shown or text))

    def result(self, result: "str | Sequence[str] | Table", *, important: bool = False) -> None:
        """Print lines or a table of the result.

        Args:
            result: one line, several lines, or a table.
            important: True for a result that ``--quiet`` shows too.
        """
        for line in self._lines(result):
            self._keep(line)
            if not self.as_json and (important or not self.quiet):
                self._print(line)

    def warn(self, line: str) -> None:
        """Print a warning to standard error."""
        self._keep(f"warning: {line}")
        click.echo(f"noctile: warning: {printable(line)}", err=True)

    def document(self, values: Mapping[str, Any]) -> None:
        """Print the result as a JSON document, if the user asked for one."""
        if self.as_json:
            click.echo(json.dumps(values, indent=2, ensure_ascii=False, default=_plain))

    def _lines(self, result: "str | Sequence[str] | Table") -> list[str]:
        if isinstance(result, str):
            return [result]
        if isinstance(result, Sequence):
            return list(result)
        rows = self.console.render_lines(result, pad=False)
        return ["".join(piece.text for piece in row).rstrip() for row in rows]

    def _print(self, text: str) -> None:
        """Print lines without color, with control characters as text.

        On a terminal, long lines are wrapped.
        """
        width = self.width if self.console.is_terminal else sys.maxsize
        for line in text.split("\n"):
            shown = wrapped(printable(line), width)
            self.console.print(shown, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def _keep(self, text: str) -> None:
        """Keep a line in the log of the run and in the log file."""
        self._keep_in_file(text)
        if self._run_log:
            self._run_log.write(text)
        else:
            self._early.append((datetime.now().astimezone(), text))

    def _keep_in_file(self, text: str) -> None:
        if self._log:
            from noctile.workflows.results.run_log import stamped

            with suppress(OSError):  # a full disk
                self._log.write(stamped(text, datetime.now().astimezone()))


def wrapped(line: str, width: int) -> str:
    """Wrap a long line after semicolons, else at words; later lines are indented."""
    if len(line) <= width:
        return line
    rows = [""]
    for part in line.replace("; ", ";\n").split("\n"):
        if rows[-1] and len(rows[-1]) + 1 + len(part) > width:
            rows.append(" ")
        rows[-1] = f"{rows[-1]} {part}" if rows[-1] else part
    fill = partial(textwrap.fill, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fill(row, width, subsequent_indent="  ") for row in rows)


def _open_log(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise UsageError(
            f"--log-file {path} cannot be written: {error.strerror or error}"
        ) from error


def _plain(value: object) -> object:
    """Return a path as text, a time as ISO 8601, and a set or tuple as a list, for JSON."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return list(value) if isinstance(value, set | frozenset) else str(value)
