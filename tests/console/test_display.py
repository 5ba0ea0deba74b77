"""The live line of a run, and an output that is closed by its reader."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from noctile.console.display import Display, duration, open_console
from noctile.console.printer import Printer
from noctile.pipeline.cohort import SlideRow
from noctile.workflows.results.run_log import RunLog
from noctile.workflows.run.progress import Detail, Progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def screen(monkeypatch):
    """Printer on a terminal of a given width, and the text that it shows."""

    def opened(width: int, *, terminal: bool = True, **options) -> tuple[Printer, io.StringIO]:
        out, printer = io.StringIO(), Printer(**options)
        printer._console = Console(file=out, width=width, force_terminal=terminal)
        return printer, out

    return opened


def test_without_a_terminal_each_slide_is_a_line_with_its_time(screen):
    printer, out = screen(20, terminal=False)
    with Display(printer, 3) as show:
        show(Progress(3), Detail("a: 12 tiles in 1 blocks"))
        show(Progress(3, done=1), "a: done, and a line that is longer than the terminal is wide")
        show(Progress(3, done=1), "")
    lines = out.getvalue().splitlines()
    assert all(re.match(r"[0-2]\d:[0-5]\d:[0-5]\d ", line) for line in lines)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "3 slides",
        "[1/3] a: done, and a line that is longer than the terminal is wide",
    ]


def test_details_are_shown_on_request(screen):
    printer, out = screen(80, terminal=False, verbose=True)
    with Display(printer, 3) as show:
        show(Progress(3), Detail("a: 12 tiles in 1 blocks"))
    assert out.getvalue().endswith(" [0/3] a: 12 tiles in 1 blocks\n")


def test_quiet_shows_no_progress(screen):
    printer, out = screen(80, quiet=True)
    with Display(printer, 3) as show:
        show(Progress(3, done=1), "a: done")
    assert out.getvalue() == ""


def test_on_a_terminal_a_slide_is_one_line_with_the_end_of_its_id(screen):
    printer, out = screen(60)
    slide_id = "TCGA-BRCA-batch-7-a-very-long-name-of-a-slide-00042"
    row = SlideRow(slide_id, Path("x"), "failed", "unopenable")
    progress = Progress(3000, done=8, rows={slide_id: row})
    with Display(printer, 3000) as show:
        show(progress, f"{slide_id}: failed, unopenable: no reader opens the file; copy it again")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n")
    (line,) = (line for line in plain.splitlines() if "failed" in line)
    assert line.startswith("[8/3000] TCGA-BRCA...de-00042: failed, unopenable")
    assert len(line) <= 60


def test_the_live_line_shows_the_speed_and_the_time_left(screen, monkeypatch):
    monkeypatch.setattr("noctile.console.display.time.monotonic", lambda: 0.0)
    display = Display(screen(80)[0], 4)
    monkeypatch.setattr("noctile.console.display.time.monotonic", lambda: 100.0)
    line = display._line(Progress(4, done=1, predictions=500, planned=1000))
    assert line == "1 of 4 slides, 5.0 tiles/s, about 5 min 00 s left"


def test_the_log_of_a_run_also_has_the_lines_before_its_begin(screen, tmp_path):
    printer, _ = screen(80)
    printer.warn("gone.tif is left out")
    with Display(printer, 3, RunLog(tmp_path / "run.log")) as show:
        assert not (tmp_path / "run.log").exists()
        show(Progress(3), "")
    printer.result("3 done")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["warning: gone.tif is left out", "3 done"]


def test_a_character_that_the_output_lacks_is_an_escape():
    raw = io.BytesIO()
    console = open_console(io.TextIOWrapper(raw, "ascii", write_through=True))
    console.print("Fl\u00e4che \udcff")
    assert raw.getvalue() == b"Fl\\xe4che \\udcff\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is an error on Windows")
def test_text_is_discarded_after_the_reader_has_gone():
    program = (
        "import sys\n"
        "from noctile.console.display import open_console\n"
        "console = open_console(sys.stdout)\n"
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
    table = Table("slide")
    table.add_row("a\x1b[2J\x9b31m\x07b")
    with Printer() as printer:
        printer.console.print(table)
        printer.result(table)
        printer.result("c\x1b]0;title\x07d")
    assert "\x1b[2J" not in output.getvalue()
    assert output.getvalue().count("\\x1b[2J") == 2
    assert "c\\x1b]0;title" in output.getvalue()
