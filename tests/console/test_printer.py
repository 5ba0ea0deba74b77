"""Output of one command: quiet, verbose, JSON, a log file, narrow terminals."""

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from noctile.console.printer import Printer, wrapped
from noctile.pipeline.errors import UsageError


def show(**options) -> None:
    with Printer(**options) as printer:
        printer.progress("a: done")
        printer.progress("a: 3 tiles", detail=True)
        printer.result("the table")
        printer.result("2 failed", important=True)
        printer.warn("gone.tif is left out")
        printer.document({"failed": 2, "out": Path("out"), "ids": {"a"}, "end": NOW})


NOW = datetime(2026, 11, 29, 7, tzinfo=UTC)


def without_times(text: str) -> list[str]:
    return re.sub(r"^\d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE).splitlines()


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ({}, ["a: done", "the table", "2 failed"]),
        ({"verbose": True}, ["a: done", "a: 3 tiles", "the table", "2 failed"]),
        ({"quiet": True}, ["2 failed"]),
    ],
)
def test_a_user_sees_as_much_as_they_ask_for(options, out, capsys):
    show(**options)
    shown = capsys.readouterr()
    assert without_times(shown.out) == out
    assert shown.err == "noctile: warning: gone.tif is left out\n"


def test_json_leaves_standard_output_to_the_document(capsys):
    show(as_json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "failed": 2,
        "out": "out",
        "ids": ["a"],
        "end": "2026-11-29T07:00:00+00:00",
    }
    assert without_times(shown.err) == ["a: done", "noctile: warning: gone.tif is left out"]


def test_a_log_file_gets_every_line_with_its_date_and_time(tmp_path, capsys):
    log = tmp_path / "night.log"
    log.write_text("earlier\n")
    show(quiet=True, log_file=log)
    capsys.readouterr()
    first, *lines = log.read_text(encoding="utf-8").splitlines()
    assert first == "earlier"
    assert all(datetime.fromisoformat(line.split(" ")[0]).tzinfo for line in lines)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "a: done",
        "a: 3 tiles",
        "the table",
        "2 failed",
        "warning: gone.tif is left out",
    ]


def test_an_error_that_ends_the_command_is_in_the_log_file(tmp_path):
    with pytest.raises(UsageError), Printer(log_file=tmp_path / "log"):
        raise UsageError("no slides")
    assert (tmp_path / "log").read_text().endswith(" error: no slides\n")


def test_a_log_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"--log-file .*gone/log cannot be written: No such file"):
        Printer(log_file=tmp_path / "gone" / "log")


def test_a_long_line_is_wrapped_after_semicolons_first():
    line = "2960 done, 40 failed; tumor 4440.000 mm2 in all; 123456 tiles in 36000.0 s (3 tiles/s)"
    assert wrapped(line, 60).splitlines() == [
        "2960 done, 40 failed; tumor 4440.000 mm2 in all;",
        "  123456 tiles in 36000.0 s (3 tiles/s)",
    ]
    assert wrapped(line, 100) == line


def test_a_path_is_never_broken():
    path = "/data/" + "x" * 80
    assert wrapped(f"all columns: {path}", 60).splitlines() == ["all columns:", f"  {path}"]


def test_an_escape_sequence_becomes_text(capsys):
    with Printer() as printer:
        printer.result("a\x1b]0;title\x07")
        printer.warn("b\x1b[2J")
    shown = capsys.readouterr()
    assert shown.out == "a\\x1b]0;title\\x07\n"
    assert shown.err == "noctile: warning: b\\x1b[2J\n"


def test_a_table_has_no_color_and_fits_a_narrow_terminal(tmp_path):
    out, log = io.StringIO(), tmp_path / "log"
    printer = Printer(log_file=log)
    printer._console = Console(file=out, width=60, force_terminal=True)
    table = Table("slide", "flags")
    table.add_row("a-long-name-" * 10, "pen_marks, blurred")
    with printer:
        printer.result(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in out.getvalue() + log.read_text(encoding="utf-8")
    assert len(log.read_text(encoding="utf-8").splitlines()) == len(lines)
