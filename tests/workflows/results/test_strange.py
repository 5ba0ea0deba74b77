"""Links, pipes and devices in a slide's folder."""

import os

import pytest

from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.strange import strange_file, strange_kind


@pytest.fixture
def folder(tmp_path) -> SlideFolder:
    folder = SlideFolder(tmp_path / "a")
    (folder.mask / "labels").mkdir(parents=True)
    folder.blocks.mkdir()
    folder.plan.write_text("{}")
    return folder


def test_files_and_folders_are_not_strange_nor_are_links_of_the_user(folder, tmp_path):
    (folder.path / "notes").symlink_to(tmp_path)
    assert strange_file(folder) is None
    assert strange_kind(folder.plan) is None
    assert strange_kind(folder.plan / "below a file") is None


@pytest.mark.parametrize(
    "name", ["tissue.png", "heat.ome.zarr", "mask.ome.zarr/labels/classes", "blocks/0.0.json"]
)
def test_a_link_or_a_pipe_is_named(folder, tmp_path, name):
    (folder.path / name).symlink_to(tmp_path)
    assert strange_file(folder) == f"{name} is a link, which no run makes; it is not followed"
    (folder.path / name).unlink()
    os.mkfifo(folder.path / name)
    assert strange_file(folder) == f"{name} is a pipe or a device, not a file"
