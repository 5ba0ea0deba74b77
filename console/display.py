"""Output to the terminal: live line of a run, and text without escape sequences of strangers."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO, cast

from noctile.console.summary import shortened
from noctile.pipeline.untrusted import printable_lines
from noctile.workflows.processes.output import ForgivingOutput

if TYPE_CHECKING:
    from rich.console import Console

    from noctile.console.printer import Printer
    from noctile.workflows.results.run_log import RunLog
    from noctile.workflows.run.progress import Progress

_ID_CHARS = 20
"""Fewest characters of a slide's id on a narrow terminal, if the id is longer."""


def open_console(stream: TextIO) -> "Console":
    """Open a console for standard output or error: a terminal, a file or a pipe."""
    # rich controls the terminal itself; ids and messages are escaped before they get there
    file = getattr(stream, "unescaped", ForgivingOutput(stream))
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


def shortened_end(text: str, width: int) -> str:
    """Cut the end of a text that is too long."""
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def duration(seconds: float) -> str:
    """Format a duration in hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Display:
    """Progress of a run: one live line on a terminal, a line for each slide.

    Args:
        printer: output of the command.
        slides: number of slides that were submitted.
        log: log of the run; None for a command that writes none.
    """

    def __init__(self, printer: "Printer", slides: int, log: "RunLog | None" = None) -> None:
        self._printer, self._slides, self._log = printer, slides, log
        self._start = time.monotonic()
        live = printer.console.is_terminal and not printer.quiet
        self._status = printer.console.status("starting") if live else None

    def __enter__(self) -> "Callable[[Progress, str], None]":
        if self._status:
            self._status.start()
        else:
            self._printer.progress(f"{self._slides} slides")
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def _show(self, progress: "Progress", message: str) -> None:
        from noctile.workflows.run.progress import Detail

        if self._log:  # the run has begun, and holds the folder
            self._printer.log_to(self._log)
            self._log = None
        if message:
            ended = progress.done + len(progress.failures)
            count = f"[{ended}/{progress.slides}] "
            shown = count + self._fitted(progress, message, len(count))
            detail = isinstance(message, Detail)
            self._printer.progress(count + message, shown, detail=detail)
        if self._status:
            self._status.update(shortened_end(self._line(progress), self._printer.width - 2))

    def _fitted(self, progress: "Progress", message: str, taken: int) -> str:
        """Fit a message about a slide into one line of a terminal."""
        slide_id, colon, rest = message.partition(": ")
        width = self._printer.width - taken
        if not self._status or len(message) <= width or slide_id not in progress.rows:
            return message
        shown = shortened(slide_id, max(_ID_CHARS, width - len(colon + rest)))
        return shortened_end(f"{shown}{colon}{rest}", width)

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
