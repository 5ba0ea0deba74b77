"""Limits on text, JSON and TOML from untrusted files."""

import os
from pathlib import Path

import pytest

from noctile.pipeline.untrusted import (
    MAX_DEPTH,
    MAX_VALUES,
    parse_json,
    parse_toml,
    read_bytes,
    read_text,
)


def test_text_has_one_kind_of_line_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("ü\r\nb\n".encode())
    assert read_text(tmp_path / "a", 100) == "ü\nb\n"
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a", 100, "ascii")


@pytest.mark.parametrize("most_bytes", [10, 2**20, 2**20 + 10])
def test_a_file_may_have_the_most_bytes_but_not_one_more(tmp_path: Path, most_bytes: int) -> None:
    (tmp_path / "a").write_bytes(bytes(most_bytes))
    assert read_bytes(tmp_path / "a", most_bytes) == bytes(most_bytes)
    (tmp_path / "a").write_bytes(bytes(most_bytes + 1))
    with pytest.raises(OSError, match=f"more than {most_bytes} bytes"):
        read_bytes(tmp_path / "a", most_bytes)


def test_pipes_devices_folders_and_missing_files_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device, not a file"):
            read_bytes(path, 100)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 100)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "gone", 100)


def test_nesting_is_limited() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            parse_json("[" * depth + "]" * depth)
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            parse_toml("a = " + "[" * depth + "]" * depth)


def test_the_number_of_values_is_limited() -> None:
    assert parse_json("[1, 2, [3]]", 4) == [1, 2, [3]]
    with pytest.raises(ValueError, match="more than 3 values"):
        parse_json("[1, 2, [3]]", 3)
    with pytest.raises(ValueError, match=f"more than {MAX_VALUES} values"):
        parse_toml("\n".join(f"k{k} = 1" for k in range(MAX_VALUES + 1)))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "9" * 10_000])
def test_text_that_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
