"""Fingerprints: changes of a slide that they show."""

import os
from pathlib import Path

import pytest

from noctile.pipeline.slides.fingerprint import fingerprint, mtime_fingerprint


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (60_000, 60_001), (250_000, 290_000), (440_000, 440_001)]
)
def test_the_fingerprint_follows_head_samples_and_tail(
    tmp_path: Path, start: int, stop: int
) -> None:
    path = tmp_path / "a.svs"
    content = bytearray(os.urandom(500_000))
    path.write_bytes(content)
    before = fingerprint(path)
    assert len(before) == 16
    assert fingerprint(path) == before
    content[start:stop] = bytes(255 - byte for byte in content[start:stop])
    path.write_bytes(content)
    assert fingerprint(path) != before


def test_the_fingerprint_follows_the_size_and_not_the_name(tmp_path: Path) -> None:
    first, second, longer = tmp_path / "a.svs", tmp_path / "b.svs", tmp_path / "c.svs"
    first.write_bytes(bytes(1000))
    second.write_bytes(bytes(1000))
    longer.write_bytes(bytes(1001))
    assert fingerprint(first) == fingerprint(second) != fingerprint(longer)


def test_the_fingerprint_of_mrxs_follows_its_folder(tmp_path: Path) -> None:
    slide, folder = tmp_path / "a.mrxs", tmp_path / "a"
    slide.write_bytes(b"header")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(b"pixels")
    before = fingerprint(slide)
    (folder / "Data0000.dat").write_bytes(b"others")
    changed = fingerprint(slide)
    (folder / "Data0000.dat").rename(folder / "Data0001.dat")
    assert len({before, changed, fingerprint(slide)}) == 3


def test_the_mtime_fingerprint_follows_every_file_of_a_slide(tmp_path: Path) -> None:
    slide, folder = tmp_path / "a.mrxs", tmp_path / "a"
    slide.write_bytes(b"header")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(b"pixels")
    before = mtime_fingerprint(slide)
    assert mtime_fingerprint(slide) == before
    os.utime(folder / "Data0000.dat", ns=(1, 1))
    changed = mtime_fingerprint(slide)
    os.utime(slide, ns=(1, 1))
    assert len({before, changed, mtime_fingerprint(slide)}) == 3
