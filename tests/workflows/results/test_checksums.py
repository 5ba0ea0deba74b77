"""Checksums of the files of a slide."""

import hashlib

import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.checksums import kept_files, read_checksums, write_with_checksums
from noctile.workflows.results.layout import SlideFolder


@pytest.fixture
def folder(tmp_path) -> SlideFolder:
    folder = SlideFolder(tmp_path)
    for path in (folder.plan, folder.tiles, folder.mask / "0" / "zarr.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return folder


def test_every_file_has_its_sha256_and_so_has_the_summary(folder):
    write_with_checksums(folder, {"key": "k"})
    sums = read_checksums(folder)
    assert sums is not None
    assert set(sums) == {"plan.json", "tiles.parquet", "mask.ome.zarr/0/zarr.json", "summary.json"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder.path / name).read_bytes()).hexdigest() == digest


def test_files_of_the_user_and_of_killed_writers_have_none(folder):
    before = kept_files(folder)
    (folder.path / "my notes.txt").write_text("mine")
    (folder.path / ".summary.123.tmp.json").write_text("half")
    assert kept_files(folder) == before


def test_a_slide_of_an_early_version_has_no_record_and_a_damaged_record_is_an_error(folder):
    assert read_checksums(folder) is None
    folder.checksums.write_text('{"files": []}')
    with pytest.raises(StoreError, match="is damaged"):
        read_checksums(folder)
