"""Ledgers and leases that do damage."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.status import read_status
from noctile.workflows.results import ledger as ledger_module
from noctile.workflows.results.events import parse_events
from noctile.workflows.results.lease import Lease, read_lease
from noctile.workflows.results.ledger import Ledger, read_ledger
from noctile.workflows.results.ledger_state import LedgerState

TIME = "2026-11-29T01:00:00.000+00:00"
START = {
    "time": TIME,
    "event": "start",
    "command": "run",
    "slides": ["a"],
    "pixels_key": "k",
}
FAILED = {
    "time": TIME,
    "event": "failed",
    "step": "prepare",
    "slide_id": "a",
    "key": "k",
    "seconds": 1.0,
    "attempt": 1,
    "reason": "unopenable",
    "message": "m",
    "traceback": "",
}


def ledger(out: Path, *lines: dict[str, Any] | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path = out / "ledger.jsonl"
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "slide_id", ["../../x", "/etc/passwd", "..", "", "a\x1b[2J", "a\nb", "a" * 300_000, [], None]
)
def test_an_id_that_cannot_name_a_folder_is_left_out(tmp_path: Path, slide_id: Any) -> None:
    start = START | {"slides": ["a", slide_id]}
    state = read_ledger(ledger(tmp_path, start, FAILED | {"slide_id": slide_id}))
    assert state.start is not None
    assert state.start.slides == ("a",)
    assert set(state.slides) <= {"a"}


@pytest.mark.parametrize(
    "values",
    [
        {"seconds": 10**400},
        {"attempt": float("inf")},
        {"attempt": "x"},
        {"slide_id": ["a"]},
        {"seconds": None},
    ],
    ids=str,
)
def test_a_line_with_other_types_is_left_out(tmp_path: Path, values: dict[str, Any]) -> None:
    state = read_ledger(ledger(tmp_path, START, FAILED | values, "[" * 100_000, "5", "[]", "{}"))
    assert state.failure("a") is None


@pytest.mark.parametrize("time", ["2026-11-29T01:00:00", "yesterday", 5, None, ["x"]])
def test_a_start_without_a_time_zone_is_left_out(tmp_path: Path, time: Any) -> None:
    assert read_ledger(ledger(tmp_path, START | {"time": time})).start is None


def test_escape_sequences_and_long_messages_become_short_text() -> None:
    lines = [FAILED | {"message": "\x1b[2J" + "m" * 300_000, "reason": {"a": "\x1b"}}]
    (event,) = parse_events(map(json.dumps, lines))
    state = LedgerState()
    state.take(event)
    failure = state.failure("a")
    assert failure is not None
    assert failure.message.isprintable()
    assert failure.reason.isprintable()
    assert len(failure.message) < 2100


def test_a_pipe_in_place_of_the_ledger_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ledger.jsonl")
    with pytest.raises(UsageError, match="a pipe or a device"):
        read_status(tmp_path)
    with pytest.raises(UsageError, match="a pipe or a device"):
        Ledger(tmp_path / "ledger.jsonl")


def test_a_link_in_place_of_the_ledger_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    (tmp_path / "ledger.jsonl").symlink_to("mine")
    with pytest.raises(UsageError, match="cannot be used"):
        Ledger(tmp_path / "ledger.jsonl")
    assert (tmp_path / "mine").read_text() == ""


def test_a_ledger_of_terabytes_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "ledger.jsonl").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(UsageError, match="more than 4294967296 bytes"):
        read_status(tmp_path)


@pytest.mark.parametrize("run", ["../../../x", "a/b", "", "a" * 100, "\x1b"])
def test_the_name_of_a_run_in_a_lease_leads_out_of_no_folder(tmp_path: Path, run: str) -> None:
    values = {"host": "h", "place": "p", "pid": 1, "start_s": 1.0, "since": "s"}
    (tmp_path / "lease.json").write_text(json.dumps(values | {"run": run}))
    assert read_lease(tmp_path) is None


@pytest.mark.parametrize("values", [{"pid": 1e999}, {"start_s": 10**400}, {"pid": []}], ids=str)
def test_a_lease_with_other_types_is_one_that_cannot_be_read(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    usual = {"host": "h", "place": "p", "pid": 1, "start_s": 1.0, "run": "r", "since": "s"}
    (tmp_path / "lease.json").write_text(json.dumps(usual | values))
    assert read_lease(tmp_path) is None
    (tmp_path / "lease.json").write_text("[" * 60_000)
    assert read_lease(tmp_path) is None


def test_a_pipe_in_place_of_the_lease_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lease.json")
    with pytest.raises(OSError, match="a pipe or a device"):
        Lease(tmp_path, lambda _: None)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_lines_that_are_too_long_are_counted_and_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_LINE_BYTES", 1000)
    ledger(tmp_path, *["x" * 1500] * count, START, FAILED)
    status = read_status(tmp_path)
    assert len(status.failed) == 1
    printed = CliRunner().invoke(main, ["status", str(tmp_path)]).output
    assert printed.count("longer than 1000 bytes") == min(count, 1)
    assert (f"{count} line" in status.note) == bool(count)
