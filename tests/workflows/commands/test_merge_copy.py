"""Copies of finished slides, compared with their checksums."""

import json
import os
from pathlib import Path

import pytest
from damaged_results import LABELS, edit, first_shard, flip_a_bit

from noctile.pipeline.errors import StoreError
from noctile.workflows.commands import merge_copy
from noctile.workflows.commands.merge_copy import DamagedResultError, copy_result, size_of
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import SlideFolder


@pytest.fixture
def source(damaged) -> SlideFolder:
    return SlideFolder(damaged / "slides" / "a")


def staged(tmp_path: Path, slide_id: str = "a") -> SlideFolder:
    return SlideFolder(tmp_path / ".staging" / slide_id)


def files(folder: SlideFolder) -> dict[str, bytes]:
    paths = (path for path in folder.path.rglob("*") if path.is_file())
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in paths}


def test_a_copy_has_the_same_bytes_and_no_file_of_the_user(source, tmp_path):
    before, copy = files(source), staged(tmp_path)
    (source.path / "my notes.txt").write_text("mine")
    (source.mask / ".zarr.123.tmp.json").write_text("left by a writer that was killed")
    copy.path.mkdir(parents=True)
    copy.summary.write_text("left by a copy that was killed")
    copy_result(source, copy)
    assert files(copy) == before
    sizes = json.loads(source.checksums.read_text())["bytes"]
    assert size_of(source) >= sum(sizes.values()) - sizes["summary.json"]


def test_the_plan_and_the_summary_are_copied_last(source, tmp_path, monkeypatch):
    """A run takes a folder with a plan for one that it can continue, and a summary for the end."""
    order, kept = [], merge_copy.copy_file

    def copy_file(path, target, sha256):
        order.append(path.name)
        kept(path, target, sha256)

    monkeypatch.setattr(merge_copy, "copy_file", copy_file)
    copy_result(source, staged(tmp_path))
    assert order[-3:] == ["plan.json", "checksums.json", "summary.json"]


def linked(source: SlideFolder) -> None:
    source.tiles.rename(source.path.parent / "t")
    source.tiles.symlink_to(source.path.parent / "t")


def piped(source: SlideFolder) -> None:
    source.preview.unlink()
    os.mkfifo(source.preview)


def out_of_the_folder(source: SlideFolder) -> None:
    record = json.loads(source.checksums.read_text())
    record["files"]["../b/plan.json"] = "0" * 64
    source.checksums.write_text(json.dumps(record))


DAMAGE = {
    "checksum differs": lambda s: flip_a_bit(s.path.parents[1] / first_shard(s.path.parents[1])),
    "summary.json is not what": lambda s: edit(s.summary, tiles=1),
    "is a link": linked,
    "is a pipe": piped,
    "b/plan.json is missing": out_of_the_folder,
    "tissue.png is missing": lambda s: s.tissue.unlink(),
    "checksums.json is missing": lambda s: s.checksums.unlink(),
    "no sha256": lambda s: s.checksums.write_text("{}"),
    "was not there": lambda s: (s.mask / "more").write_text("x"),
}


@pytest.mark.parametrize("slide_id", ["a", "other"])
@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_result_is_named_and_leaves_nothing(source, tmp_path, what, slide_id):
    DAMAGE[what](source)
    copy = staged(tmp_path, slide_id)
    with pytest.raises(DamagedResultError, match=what):
        copy_result(source, copy)
    assert not copy.path.exists()


def test_a_mask_that_cannot_be_read_gets_no_other_id(source, tmp_path):
    (source.path / LABELS / "zarr.json").write_text("{}")
    write_with_checksums(source, json.loads(source.summary.read_text()))
    copy_result(source, staged(tmp_path))
    with pytest.raises(DamagedResultError, match="cannot be given the id other"):
        copy_result(source, staged(tmp_path, "other"))
    assert not staged(tmp_path, "other").path.exists()


def test_a_copy_that_cannot_be_written_is_an_error_of_the_disk(source, tmp_path):
    (tmp_path / ".staging").write_text("a file in the place of the folder")
    with pytest.raises(StoreError, match="cannot be written"):
        copy_result(source, staged(tmp_path))
