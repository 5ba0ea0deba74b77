"""Folders that are synced, so that names survive a power cut."""

import errno
import os
from pathlib import Path

import pytest

from noctile.workflows.results.durable import sync_file, sync_folder, sync_names, sync_tree


@pytest.fixture
def synced(monkeypatch) -> list[Path]:
    """Paths of everything that is synced, in order."""
    paths = []
    sync = os.fsync

    def record(number: int) -> None:
        paths.append(Path(f"/proc/self/fd/{number}").readlink())
        sync(number)

    monkeypatch.setattr(os, "fsync", record)
    return paths


def test_every_folder_between_the_files_and_the_top_is_synced_once_and_the_top_last(
    tmp_path, synced
):
    for name in ("a/b/x", "a/c/y", "a/c/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sync_names([tmp_path / "a/b/x", tmp_path / "a/c/y", tmp_path / "a/c/z"], tmp_path)
    assert sorted(synced[:2]) == [tmp_path / "a/b", tmp_path / "a/c"]
    assert synced[2:] == [tmp_path / "a", tmp_path]


def test_a_tree_is_synced_with_its_files_from_the_bottom(tmp_path, synced):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    sync_tree(tmp_path)
    assert synced == [tmp_path / "a" / "x", tmp_path / "a", tmp_path]


def test_a_file_system_that_cannot_sync_folders_is_no_error_and_a_full_disk_is_one(
    tmp_path, monkeypatch
):
    def refuse(number: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    code = errno.EINVAL
    sync_folder(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        sync_file(tmp_path)
    code = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        sync_folder(tmp_path)
