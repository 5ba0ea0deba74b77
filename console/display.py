"""Output to the terminal: live line of a run, and tables without escape sequences of strangers."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO, cast

import click

from noctile.pipeline.untrusted import printable_lines
from noctile.workflows.processes.output import ForgivingOutput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column

    from noctile.workflows.run.progress import Progress

_NAMES_CHARS = 200
"""Longest list of names that is shown (characters)."""


def warn(line: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"noctile: warning: {line}", err=True)


def open_console() -> "Console":
    """Open a console for standard output, which may be a terminal, a file or a pipe."""
    # rich controls the terminal itself; ids and messages are escaped before they get there
    file = getattr(sys.stdout, "unescaped", ForgivingOutput(sys.stdout))
    return _escaping_console()(file=cast("TextIO", file))


def _escaping_console() -> "type[Console]":
    """Make the class of a console that prints text from untrusted files without escape sequences.

    The class is made here because rich is imported late.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class EscapingConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(printable_lines(segment.text), segment.style)

    return EscapingConsole


def print_line(console: "Console", line: str) -> None:
    """Print one line as it is, neither coloured nor wrapped."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def whole(header: str) -> "Column":
    """Make a column whose cells are wrapped and never cut, so that ids stay distinguishable."""
    from rich.table import Column

    return Column(header, overflow="fold")


def shortened(names: str) -> str:
    """Shorten a list of names: a long one is cut after a comma."""
    if len(names) <= _NAMES_CHARS:
        return names
    return f"{names[:_NAMES_CHARS].rpartition(',')[0]}, ..."


def duration(seconds: float) -> str:
    """Format a duration in hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Display:
    """Progress of a run: one live line on a terminal, a line for each event elsewhere.

    Args:
        console: the terminal.
        slides: number of slides that were submitted.
    """

    def __init__(self, console: "Console", slides: int) -> None:
        self._console, self._slides, self._start = console, slides, time.monotonic()
        self._status = console.status("starting") if console.is_terminal else None

    def __enter__(self) -> "Callable[[Progress, str], None]":
        if self._status:
            self._status.start()
        else:
            self._console.print(f"{self._slides} slides", highlight=False)
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def _show(self, progress: "Progress", message: str) -> None:
        if message:
            ended = progress.done + len(progress.failures)
            print_line(self._console, f"[{ended}/{progress.slides}] {message}")
        if self._status:
            self._status.update(self._line(progress))

    def _line(self, progress: "Progress") -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        ended = progress.done + len(progress.failures)
        speed = progress.predictions / seconds
        parts = [f"{ended} of {progress.slides} slides", f"{speed:.1f} tiles/s"]
        if progress.failures:
            parts.append(f"{len(progress.failures)} failed")
        if (left_s := _seconds_left(progress, seconds)) is not None:
            parts.append(f"about {duration(left_s)} left")
        return ", ".join(parts)


def _seconds_left(progress: "Progress", seconds: float) -> float | None:
    """Expected time to the end of a run (s); None while it cannot be estimated."""
    ended = progress.done + len(progress.failures)
    if progress.done and ended < progress.slides:  # failed slides are left out: most fail early
        return seconds / progress.done * (progress.slides - ended)
    if progress.predictions and progress.planned > progress.predictions:
        return seconds / progress.predictions * (progress.planned - progress.predictions)
    return None
