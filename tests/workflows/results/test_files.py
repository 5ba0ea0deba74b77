"""Atomic files."""

import os
from pathlib import Path

import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.files import (
    read_json,
    read_whole_json,
    sweep,
    write_atomic,
    write_json,
    write_together,
)


def test_what_is_written_is_read_back(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"x": [1, "ü"]})
    assert read_json(tmp_path / "deep" / "a.json") == {"x": [1, "ü"]}


def test_a_missing_file_is_none_and_a_damaged_one_is_an_error(tmp_path):
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StoreError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_a_pipe_a_device_and_a_folder_are_damaged_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(StoreError, match=rf"{name}\.json is damaged"):
            read_json(tmp_path / f"{name}.json")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"a": ' + "9" * 10_000 + "}", "damaged"),
        ("[" + "0," * 2**23 + "0]", "more than 8388608 values"),
    ],
)
def test_json_that_takes_too_much_memory_is_a_damaged_file(tmp_path, text, why):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match=why):
        read_json(tmp_path / "a.json")


def test_a_sparse_file_of_terabytes_is_a_damaged_file(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(StoreError, match="more than 134217728 bytes"):
        read_json(tmp_path / "a.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})

    def write(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_atomic(tmp_path / "a.json", write)
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_files_that_belong_together_are_replaced_all_or_none(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")

    def full(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_together({tmp_path / "a": lambda p: p.write_text("new"), tmp_path / "b": full})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_a_sweep_removes_temporary_files_of_killed_writers_and_no_other_file(tmp_path):
    for name in (
        ".summary.123.tmp.json",
        ".lease.99.tmp",
        ".hidden",
        "summary.json",
        "my.5.tmp.json",
    ):
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".hidden",
        "my.5.tmp.json",
        "summary.json",
    ]


def test_every_file_is_on_the_disk_before_any_gets_its_name(tmp_path, monkeypatch):
    steps, sync, replace = [], os.fsync, Path.replace

    def record_sync(number: int) -> None:
        steps.append(("sync", os.pread(number, 9, 0)))
        sync(number)

    def record_replace(path: Path, target: Path) -> Path:
        steps.append(("name", target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_together({tmp_path / n: lambda p, n=n: p.write_text(n * 9) for n in "ab"})
    assert steps == [
        ("sync", b"aaaaaaaaa"),
        ("sync", b"bbbbbbbbb"),
        ("name", "a"),
        ("name", "b"),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\0"])
def test_a_json_file_that_is_not_whole_reads_as_none(tmp_path, text):
    assert read_whole_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text(text)
    assert read_whole_json(tmp_path / "a.json") is None


def test_a_json_file_that_the_disk_cannot_read_is_an_error(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StoreError, match=r"a\.json"):
        read_whole_json(tmp_path / "a.json")
