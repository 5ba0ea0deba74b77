"""The log of all runs in a folder."""

import os
import sys
from datetime import UTC, datetime

import pytest

from noctile.workflows.results.run_log import RunLog, stamped

NOW = datetime(2026, 11, 29, 1, 30, 5, 999, tzinfo=UTC)


def test_each_line_of_a_text_has_the_time_in_front():
    assert stamped("a\nb", NOW) == ("2026-11-29T01:30:05+00:00 a\n2026-11-29T01:30:05+00:00 b\n")


def test_an_escape_sequence_becomes_text():
    assert stamped("\x1b[2Ja", NOW) == "2026-11-29T01:30:05+00:00 \\x1b[2Ja\n"


def test_lines_are_appended_after_those_of_earlier_runs(tmp_path):
    for text in ("first", "second"):
        RunLog(tmp_path / "run.log").write(text, NOW)
    lines = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["first", "second"]


def test_a_line_without_a_time_has_the_present_one(tmp_path):
    RunLog(tmp_path / "run.log").write("now")
    time = (tmp_path / "run.log").read_text(encoding="utf-8").split()[0]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()) < 60


def test_a_name_that_is_not_utf8_is_written(tmp_path):
    RunLog(tmp_path / "run.log").write(os.fsdecode(b"a\xff.svs"), NOW)
    assert b"a\\udcff.svs" in (tmp_path / "run.log").read_bytes()


@pytest.mark.parametrize("name", ["gone/run.log", "folder"])
def test_a_log_that_cannot_be_written_is_no_error(tmp_path, name):
    (tmp_path / "folder").mkdir()
    RunLog(tmp_path / name).write("text", NOW)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of Unix")
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_in_place_of_the_log_is_left_alone(tmp_path, kind):
    log = tmp_path / "run.log"
    (tmp_path / "other").write_text("mine")
    if kind == "link":
        log.symlink_to(tmp_path / "other")
    else:
        os.mkfifo(log)
    RunLog(log).write("text", NOW)
    assert (tmp_path / "other").read_text() == "mine"
    assert log.is_symlink() or log.is_fifo()
