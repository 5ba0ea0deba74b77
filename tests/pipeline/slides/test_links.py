"""Links to slides of several files."""

import shutil
from pathlib import Path

import pytest

from noctile.pipeline.slides.links import data_path, real_path, series_sizes


@pytest.fixture
def series(tmp_path: Path, shared_data: Path) -> Path:
    """A folder with two files of one DICOM series."""
    folder = tmp_path / "series"
    folder.mkdir()
    for name in ("0.dcm", "1.dcm"):
        shutil.copyfile(shared_data / "slides" / "camelyon-overview.dcm", folder / name)
    return folder


def test_a_link_to_an_mrxs_file_leads_to_its_data(tmp_path: Path) -> None:
    (tmp_path / "archive" / "m").mkdir(parents=True)
    (tmp_path / "archive" / "m" / "Slidedat.ini").touch()
    target = tmp_path / "archive" / "m.mrxs"
    target.touch()
    link = tmp_path / "m.mrxs"
    link.symlink_to(target)
    assert data_path(link) == target
    assert data_path(target) == target
    (tmp_path / "m").symlink_to("archive/m")
    assert data_path(link) == link


def test_a_link_to_one_dicom_file_leads_to_its_series(tmp_path: Path, series: Path) -> None:
    link = tmp_path / "alone.dcm"
    link.symlink_to(series / "1.dcm")
    assert data_path(link) == series / "1.dcm"
    (tmp_path / "other.dcm").symlink_to(series / "0.dcm")
    assert data_path(link) == link
    assert set(series_sizes(series).values()) == {2}


def test_other_links_and_broken_ones_are_the_path_itself(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    for name, target in (("link.svs", "a.svs"), ("gone.dcm", "nowhere"), ("self.dcm", "self.dcm")):
        (tmp_path / name).symlink_to(target)
        assert data_path(tmp_path / name) == tmp_path / name
    assert real_path(tmp_path / "link.svs") == real_path(tmp_path / "a.svs")
