import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.workflows.viewer.files import (
    NoFileError,
    find_entry,
    find_file,
    list_folder,
    read_part,
    wanted_range,
)


@pytest.fixture
def folder(tmp_path):
    """A folder of results with a secret file beside it, and links that lead there."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_text("secret")
    folder = tmp_path / "results"
    (folder / "slides" / "a").mkdir(parents=True)
    (folder / "slides" / "a" / "summary.json").write_text("{}")
    (folder / ".staging").mkdir()
    (folder / ".staging" / "x.txt").write_text("hidden")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "slides" / "out").symlink_to(tmp_path / "outside")
    (folder / "inside.txt").symlink_to(folder / "slides" / "a" / "summary.json")
    os.mkfifo(folder / "pipe.txt")
    return folder


def test_a_file_is_found(folder):
    found = find_file(folder, "slides/a/summary.json")
    assert (found.path, found.size) == (folder / "slides" / "a" / "summary.json", 2)
    assert found.type == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.txt", "slides/../../secret.txt", "slides/a/../../../secret.txt", ".."),
        *("/etc/passwd", "//etc/passwd", "slides//a/summary.json", "./slides/a/summary.json"),
        *("slides\\a\\summary.json", "..\\secret.txt", "slides/a/summary.json\0", "\0", "C:x"),
        *(".staging/x.txt", ".staging", "link.txt", "slides/out/b.txt", "slides/out", "inside.txt"),
        *("pipe.txt", "slides/a/summary.json/x", "a" * 300, "/".join("a" * 200), "no.txt"),
    ],
)
def test_no_name_leads_out_of_the_folder(folder, name):
    with pytest.raises(NoFileError):
        find_entry(folder, name)


def test_a_folder_is_no_file(folder):
    assert find_entry(folder, "slides/") == folder / "slides"
    with pytest.raises(NoFileError, match="folder"):
        find_file(folder, "slides")


@given(st.text(st.characters(blacklist_categories=())))
def test_any_name_is_found_inside_or_refused(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    with suppress(NoFileError):
        assert find_entry(folder, name).absolute().is_relative_to(folder)


def test_a_list_leaves_out_links_and_what_is_hidden(folder):
    assert list_folder(folder) == (["slides"], [])
    assert list_folder(folder / "slides") == (["a"], [])
    assert list_folder(folder / "slides" / "a") == ([], ["summary.json"])
    with pytest.raises(NoFileError):
        list_folder(folder / "no")


def test_the_etag_changes_with_the_file(folder):
    path = folder / "slides" / "a" / "summary.json"
    before = find_file(folder, "slides/a/summary.json").etag
    path.write_text("{ }")
    assert find_file(folder, "slides/a/summary.json").etag != before


@pytest.mark.parametrize("name", ["a.parquet", "a.svg", "a.xhtml", "a", "a.html.exe", "a.htm"])
def test_files_that_could_run_scripts_are_downloads(tmp_path, name):
    (tmp_path / name).touch()
    assert find_file(tmp_path, name).type == "application/octet-stream"


def test_parts_of_a_large_file_are_read(tmp_path):
    content = os.urandom(700_000)
    (tmp_path / "a").write_bytes(content)
    parts = list(read_part(tmp_path / "a", 10, 600_000))
    assert b"".join(parts) == content[10:600_000]
    assert max(map(len, parts)) <= 2**18


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=90-1000", (90, 100)),
        ("BYTES= 1 - 2", (1, 3)),
        *((text, None) for text in ("bytes=", "bytes=-", "lines=0-9", "bytes=0-9,20-29", "0-9")),
        *((text, None) for text in ("bytes=9-0", "bytes=a-b", "bytes=--5", "bytes=²-")),
        (f"bytes=0-{'9' * 50}", None),
    ],
)
def test_ranges(header, part):
    assert wanted_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_outside_are_refused(header):
    with pytest.raises(ValueError, match="100 bytes"):
        wanted_range(header, 100)


@given(st.text(max_size=60), st.integers(0, 10**6))
def test_any_range_lies_inside_or_is_refused(text, size):
    for header in (text, f"bytes={text}"):
        try:
            start, stop = wanted_range(header, size) or (0, size)
        except ValueError:
            continue
        assert 0 <= start <= stop <= size
