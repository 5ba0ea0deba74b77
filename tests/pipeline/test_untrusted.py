"""Limits on text, JSON and TOML from untrusted files."""

import os
from pathlib import Path

import pytest

from noctile.pipeline.untrusted import (
    MAX_DEPTH,
    MAX_VALUES,
    open_private,
    open_regular,
    parse_json,
    parse_toml,
    printable,
    printable_lines,
    read_bytes,
    read_lines,
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


def test_a_pipe_that_replaces_a_checked_file_holds_nothing_up(tmp_path: Path) -> None:
    """No call of `Path.is_file` decides: the opened file itself is checked."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="a pipe or a device, not a file"):
            open_regular(tmp_path / name)
    (tmp_path / "a").write_bytes(b"x")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"x"


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_refused_files_leave_no_file_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = open_files()
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"."):
            open_regular(path)
    after = open_files()
    assert after == before


def test_a_sparse_file_of_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_bytes(tmp_path / "sparse", 100)
    with pytest.raises(OSError, match="more than 100 bytes"):
        next(read_lines(tmp_path / "sparse", 100, 10))


def test_lines_that_are_too_long_are_left_out_and_the_next_one_is_read(tmp_path: Path) -> None:
    long = b"x" * 5_000_000
    (tmp_path / "a").write_bytes(b"one\n" + long + b"\ntwo\n1234567\n12345678\ntorn \xff")
    found = list(read_lines(tmp_path / "a", 2**30, 8))
    assert found == ["one\n", None, "two\n", "1234567\n", None, "torn \ufffd"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller 7", "Müller 7"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\r\0", "a\\nb\\tc\\r\\x00"),
        ("\x9b31m \u202e \udce9", "\\x9b31m \\u202e \\udce9"),
    ],
)
def test_what_a_terminal_would_act_on_becomes_text(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_long_text_is_shortened_and_line_breaks_may_stay() -> None:
    assert printable("a" * 300_000) == "a" * 2000 + "..."
    assert printable("\x1b" * 300_000) == "\\x1b" * 500 + "..."
    for text in ("a" * 2001, "\x1b" * 501, "\x1b" * 3000):
        assert printable(printable(text)) == printable(text)
    assert printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder", "writable by others"])
def test_a_file_that_another_user_can_have_made_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("link", "device"):
        (tmp_path / "secret").write_bytes(b"secret")
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "secret")
    else:
        path.write_bytes(b"planted")
        path.chmod(0o666)
    with pytest.raises(OSError, match="file"):
        open_private(path)


def test_a_private_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"own")
    (tmp_path / "file").chmod(0o600)
    with open_private(tmp_path / "file") as file:
        assert file.read() == b"own"
