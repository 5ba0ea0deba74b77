"""Folder of exported files: atomic, current or not, and nothing of another origin replaced."""

import gzip
import os
import time
from pathlib import Path

import pytest

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.results.exports import ExportFolder, identity
from noctile.workflows.results.layout import SlideFolder

MADE_FROM = {"result": "1", "options": {"classes": ["tumor"]}}


@pytest.fixture
def folder(tmp_path) -> ExportFolder:
    made = ExportFolder(tmp_path / "exports")
    made.open()
    return made


def put(folder: ExportFolder, text: str, made_from=MADE_FROM, **options) -> Path:
    return folder.write("a.x", made_from, lambda path: path.write_text(text), **options)


def visible(folder: ExportFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir() if path.name != ".noctile")


def test_a_file_is_written_whole_and_leaves_nothing_else(folder):
    assert put(folder, "text").read_text() == "text"
    assert visible(folder) == ["a.x"]


def test_a_file_is_current_until_its_result_or_its_options_change(folder):
    path = put(folder, "text")
    assert folder.current("a.x", MADE_FROM) == path
    assert folder.current("a.x", {**MADE_FROM, "result": "2"}) is None
    assert folder.current("b.x", MADE_FROM) is None
    path.unlink()
    assert folder.current("a.x", MADE_FROM) is None


def test_a_copied_file_is_current_although_its_time_is_new(folder):
    path = put(folder, "text")
    os.utime(path, ns=(0, 0))
    assert folder.current("a.x", MADE_FROM) == path


def test_an_own_file_is_replaced(folder):
    put(folder, "old")
    assert put(folder, "new").read_text() == "new"


def test_a_file_that_a_user_changed_is_not_replaced_and_not_current(folder):
    path = put(folder, "text")
    path.write_text("mine")
    assert folder.current("a.x", MADE_FROM) is None
    with pytest.raises(StoreError, match=r"a\.x was not written by noctile, or was changed since"):
        put(folder, "new")
    assert path.read_text() == "mine"


def test_a_file_of_another_origin_is_not_replaced(folder):
    (folder.path / "a.x").write_text("mine")
    with pytest.raises(StoreError, match="not replaced"):
        put(folder, "new")
    assert (folder.path / "a.x").read_text() == "mine"


def test_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "target").write_text("mine")
    (folder.path / "a.x").symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="not replaced"):
        put(folder, "new")
    assert (tmp_path / "target").read_text() == "mine"


def test_a_large_file_is_compressed_to_the_same_bytes_each_time(folder):
    small = put(folder, "x" * 100, gzip_above_bytes=100)
    assert small.name == "a.x"
    large = put(folder, "x" * 101, gzip_above_bytes=100)
    assert large.name == "a.x.gz"
    assert gzip.decompress(large.read_bytes()) == b"x" * 101
    assert visible(folder) == ["a.x.gz"]  # the plain file was older
    first = large.read_bytes()
    time.sleep(0.01)
    assert put(folder, "x" * 101, gzip_above_bytes=100).read_bytes() == first
    assert folder.current("a.x", MADE_FROM) == large


def test_a_failed_writer_leaves_the_old_file(folder):
    put(folder, "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise StoreError("a shard is damaged")

    with pytest.raises(StoreError, match="damaged"):
        folder.write("a.x", MADE_FROM, fail)
    assert visible(folder) == ["a.x"]
    assert (folder.path / "a.x").read_text() == "old"


def test_a_full_disk_is_an_error_of_the_slide(folder):
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(StoreError, match=r"a\.x cannot be written: No space left"):
        folder.write("a.x", MADE_FROM, fail)


@pytest.mark.parametrize("step", ["record", "file"])
def test_a_kill_between_record_and_file_loses_neither(folder, monkeypatch, step):
    put(folder, "old")
    real = Path.replace

    class KilledError(BaseException):
        pass

    def replace(self: Path, target: Path) -> Path:
        if (target.suffix == ".json") == (step == "record"):
            raise KilledError
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            put(folder, "newer", {**MADE_FROM, "result": "2"})
    assert (folder.path / "a.x").read_text() == "old"
    assert folder.current("a.x", {**MADE_FROM, "result": "2"}) is None
    assert put(folder, "newer", {**MADE_FROM, "result": "2"}).read_text() == "newer"


def test_old_files_of_killed_processes_are_removed_and_young_ones_stay(folder):
    old, young = (folder.path / f".a.{pid}.tmp.x" for pid in (11, 12))
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    folder.open()
    assert visible(folder) == [young.name]


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt.*choose a new or an empty folder"):
        ExportFolder(tmp_path).open()


def test_a_folder_that_is_a_link_or_a_file_is_refused(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(UsageError, match="is a link"):
        ExportFolder(tmp_path / "link").open()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        ExportFolder(tmp_path / "file").open()


def test_the_identity_of_a_result_changes_with_its_summary_and_its_checksums(tmp_path):
    slide = SlideFolder(tmp_path)
    slide.summary.write_text("{}")
    first = identity(slide)
    slide.checksums.write_text("{}")
    second = identity(slide)
    slide.summary.write_text("{ }")
    assert len({first, second, identity(slide)}) == 3
    slide.summary.unlink()
    slide.checksums.unlink()
    slide.summary.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        identity(slide)
