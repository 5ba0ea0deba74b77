"""Checksums of the files of a slide."""

import hashlib
import json

import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.checksums import (
    kept_files,
    read_checksums,
    slide_fault,
    write_with_checksums,
)
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


@pytest.fixture
def done(folder) -> SlideFolder:
    """Folder of a slide with every file that a finished slide has."""
    for path in (folder.tissue, folder.block_stats_file, folder.preview):
        path.write_text("x" * 99)
    folder.heat.mkdir()
    write_with_checksums(folder, {"key": "k"})
    return folder


class TestSlideFault:
    def test_a_whole_slide_has_none_and_files_of_the_user_do_not_matter(self, done):
        for name in ("my notes.txt", "mask.ome.zarr/.DS_Store", "mask.ome.zarr/0/7"):
            (done.path / name).touch()
        assert slide_fault(done) is None

    @pytest.mark.parametrize(
        "name",
        ["plan.json", "tissue.png", "preview.jpg", "mask.ome.zarr/0/zarr.json", "summary.json"],
    )
    def test_a_missing_empty_or_torn_file_is_named(self, done, name):
        path = done.path / name
        path.write_bytes(path.read_bytes()[:3])
        assert slide_fault(done).startswith(f"{name} ")
        path.write_bytes(b"")
        assert slide_fault(done).startswith(f"{name} ")
        path.unlink()
        assert slide_fault(done) == f"{name} is missing"

    def test_a_torn_record_is_named(self, done):
        done.checksums.write_bytes(b"{")
        assert slide_fault(done) == "checksums.json is torn"

    @pytest.mark.parametrize("name", ["checksums.json", "summary.json"])
    def test_a_record_or_summary_with_other_types_is_named(self, done, name):
        (done.path / name).write_text('{"files": 1, "key": 5}')
        assert slide_fault(done) == f"{name} is not as noctile writes it"

    @pytest.mark.parametrize("recorded", [True, False])
    def test_every_file_of_an_early_version_must_have_content(self, done, recorded):
        """Early versions recorded no sizes, and the first ones no checksums."""
        record = json.loads(done.checksums.read_text())
        del record["bytes"]
        done.checksums.write_text(json.dumps(record)) if recorded else done.checksums.unlink()
        assert slide_fault(done) is None
        done.preview.write_bytes(b"")
        assert slide_fault(done) == "preview.jpg is empty"
