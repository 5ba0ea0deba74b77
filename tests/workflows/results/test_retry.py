"""File operations that meet errors: those that pass are repeated."""

import errno
import os
from pathlib import Path

import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.engines.base import Failure
from noctile.workflows.results import retry as module
from noctile.workflows.results.files import read_json, write_json
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.retry import retried


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    return made


class Failing:
    """Operation that meets errors before it succeeds."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def __call__(self) -> str:
        if self.numbers:
            raise OSError(self.numbers.pop(0), "no")
        return "done"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EINTR, errno.ESTALE])
def test_an_error_that_passes_is_waited_for(pauses, number):
    assert retried(Failing(number, number, number)) == "done"
    assert pauses == [0.1, 0.5, 1.5]


def test_an_error_that_stays_is_raised_after_the_last_attempt(pauses):
    with pytest.raises(OSError, match="no"):
        retried(Failing(*[errno.EIO] * 4))
    assert len(pauses) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT])
def test_an_error_that_does_not_pass_is_raised_at_once(pauses, number):
    with pytest.raises(OSError, match="no"):
        retried(Failing(number))
    assert pauses == []


def failing_once(monkeypatch, owner: object, name: str) -> None:
    """Let the first call of a function meet an error that passes."""
    call, fail = getattr(owner, name), Failing(errno.EACCES)

    def wrapped(*arguments: object, **options: object) -> object:
        fail()
        return call(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


def test_files_of_a_run_are_written_and_read_in_spite_of_passing_errors(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    failing_once(monkeypatch, Path, "write_text")
    failing_once(monkeypatch, Path, "replace")
    write_json(path, {"a": 1})
    failing_once(monkeypatch, os, "open")
    failing_once(monkeypatch, Path, "open")
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_ledger_is_written_in_spite_of_passing_errors(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    failing_once(monkeypatch, os, "write")
    ledger.failed("prepare", "a", "key", Failure("unopenable", "no"), 1.0)
    ledger.close()
    assert (tmp_path / "ledger.jsonl").read_text().count("\n") == 1


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("{}")
    monkeypatch.setattr(
        "noctile.workflows.results.files._read_limited", lambda _: Failing(*[5] * 4)()
    )
    with pytest.raises(StoreError, match="cannot be read: no; fix its disk"):
        read_json(path)
