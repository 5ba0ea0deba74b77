"""Errors of storage: told from damage of a file, with the error number or without it."""

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest
from standins import small_slide

from noctile.pipeline.errors import SlideOpenError, SlideReadError, StorageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides import storage as module
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.openslide import OpenSlide, OpenSlideError
from noctile.pipeline.slides.storage import Probe, Storage, probe, storage_cause


@pytest.fixture
def slide(tmp_path) -> Path:
    small_slide(tmp_path / "a.tif", seed=0, height=600, width=700)
    return tmp_path / "a.tif"


@pytest.fixture
def broken_disk(monkeypatch):
    """Every read from a file by its number meets an error, from a number of the file's bytes on."""

    def break_it(number: int = errno.EIO, start: int = 0) -> None:
        pread = os.pread

        def fail(handle: int, count: int, offset: int) -> bytes:
            if offset + count > start:
                raise OSError(number, os.strerror(number))
            return pread(handle, count, offset)

        monkeypatch.setattr(os, "pread", fail)

    return break_it


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ENOTCONN, errno.ENODEV]
)
def test_a_read_that_meets_an_error_of_the_disk_is_no_unreadable_tile(slide, broken_disk, number):
    with closing(open_slide(slide)) as reader:
        broken_disk(number)
        with pytest.raises(StorageError, match=rf"slide a: .*read: {os.strerror(number)}"):
            reader.read(Box(0, 0, 64, 64), 0.5)


def test_a_read_that_meets_damage_is_an_unreadable_tile(slide):
    with closing(open_slide(slide)) as reader:
        os.truncate(slide, 10)
        with pytest.raises(SlideReadError):
            reader.read(Box(0, 0, 64, 64), 0.5)


def test_a_library_that_hides_the_error_number_is_found_out_by_a_probe(
    slide, broken_disk, monkeypatch
):
    def unknown(*_: object) -> OpenSlide:
        raise OpenSlideError("unknown reason")

    monkeypatch.setattr("noctile.pipeline.slides.openslide.OpenSlide", unknown)
    monkeypatch.setattr(
        "noctile.pipeline.slides.open.OpenSlide.detect_format", lambda _: "generic-tiff"
    )
    with pytest.raises(SlideOpenError, match="unknown reason"):
        open_slide(slide)
    broken_disk()
    with pytest.raises(StorageError, match="Input/output error"):
        open_slide(slide)


def test_the_cause_of_an_error_is_found_by_number_and_by_text():
    inner = SlideReadError("cannot be decoded")
    inner.__cause__ = OSError(errno.EIO, "some words")
    assert storage_cause(inner) == "Input/output error"
    assert storage_cause(SlideReadError("TIFF: Stale file handle")) == "Stale file handle"
    assert storage_cause(OSError(errno.ENOENT, "gone")) is None
    assert storage_cause(SlideReadError("not a JPEG file")) is None


def test_a_probe_counts_the_parts_that_cannot_be_read(slide, broken_disk):
    assert probe(slide) == Probe(8, 0, None)
    broken_disk(start=slide.stat().st_size // 2)
    found = probe(slide)
    assert 0 < found.failed < found.samples == 8
    assert found.error is not None
    assert found.error.errno == errno.EIO


def test_a_probe_reads_the_folder_of_an_mrxs_slide(tmp_path, broken_disk):
    (tmp_path / "a").mkdir()
    for name in ("a.mrxs", "a/Data0000.dat", "a/Index.dat"):
        (tmp_path / name).write_bytes(bytes(10))
    assert probe(tmp_path / "a.mrxs").samples == 24
    broken_disk()
    assert probe(tmp_path / "a.mrxs").failed == 24


def test_a_missing_file_is_no_error_of_storage(tmp_path):
    assert probe(tmp_path / "gone.tif").failed == 0


def test_a_file_that_was_read_well_is_not_probed_for_each_bad_tile(slide, monkeypatch):
    probes = []
    monkeypatch.setattr(module, "probe", lambda path: probes.append(path) or Probe(8, 0, None))
    storage = Storage("a", slide)
    for _ in range(100):
        assert storage.error_behind(SlideReadError("bad tile")) is None
    assert len(probes) == 1
