"""The live line of a run, and an output that is closed by its reader."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from noctile.console.display import Display, duration, open_console, print_line, shortened
from noctile.workflows.run.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_a_long_list_of_names_is_cut_between_names():
    names = ", ".join(f"slide-{n}" for n in range(100))
    shown = shortened(names)
    assert len(shown) < 210
    assert shown.endswith(", ...")
    assert names.startswith(shown.removesuffix(", ...") + ",")
    assert shortened("a, b") == "a, b"


def test_without_a_terminal_each_event_is_a_line():
    out = io.StringIO()
    with Display(Console(file=out, width=20), 3) as show:
        show(Progress(3, done=1), "a: done, and a line that is longer than the terminal is wide")
        show(Progress(3, done=1), "")
    assert out.getvalue() == (
        "3 slides\n[1/3] a: done, and a line that is longer than the terminal is wide\n"
    )


def test_the_live_line_shows_the_speed_and_the_time_left(monkeypatch):
    monkeypatch.setattr("noctile.console.display.time.monotonic", lambda: 0.0)
    display = Display(Console(file=io.StringIO(), force_terminal=True), 4)
    monkeypatch.setattr("noctile.console.display.time.monotonic", lambda: 100.0)
    line = display._line(Progress(4, done=1, predictions=500, planned=1000))
    assert line == "1 of 4 slides, 5.0 tiles/s, about 5 min 00 s left"


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is an error on Windows")
def test_text_is_discarded_after_the_reader_has_gone():
    program = (
        "from noctile.console.display import open_console\n"
        "console = open_console()\n"
        "for _ in range(20_000): console.print('x' * 70)\n"
        "console.file.flush()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_escape_sequences_in_tables_and_lines_are_printed_as_text(monkeypatch):
    """On a terminal too, where rich itself prints escape sequences."""
    output = io.StringIO()
    output.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", "xterm")
    console = open_console()
    table = Table("slide")
    table.add_row("a\x1b[2J\x9b31m\x07b")
    console.print(table)
    print_line(console, "c\x1b]0;title\x07d")
    assert "\x1b[2J" not in output.getvalue()
    assert "\\x1b[2J" in output.getvalue()
    assert "c\\x1b]0;title" in output.getvalue()
