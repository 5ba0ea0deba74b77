"""Directories of TIFF files, and the limits on them."""

from pathlib import Path

import pytest
from malformed.tiffs import LONG, LONG8, SHORT, tiled, write

from noctile.pipeline.errors import SlideOpenError
from noctile.pipeline.slides.tiff.limits import (
    MAX_SIDE_PX,
    MAX_TILES,
    check_directories,
    check_tile_bytes,
    directories,
)

WIDTH, LENGTH, SUB_DIRECTORIES = 256, 257, 330


@pytest.mark.parametrize("big", [False, True])
def test_directories_are_read_in_order(tmp_path: Path, big: bool) -> None:
    path = write(tmp_path / "a.tif", tiled(300, 200), tiled(150, 100), big=big)
    found = list(directories(path))
    assert [(d.number(WIDTH), d.number(LENGTH)) for d in found] == [(300, 200), (150, 100)]
    assert [d.largest_bytes for d in found] == [64, 64]


def test_a_tag_with_several_values_is_no_single_number(tmp_path: Path) -> None:
    (found,) = directories(write(tmp_path / "a.tif", tiled(300, 200)))
    assert found.entries[258].values == (8, 8, 8)
    assert found.number(258) == 0
    assert found.number(SUB_DIRECTORIES) == 0


def test_a_directory_behind_the_end_of_the_file_is_left_out(tmp_path: Path) -> None:
    assert len(list(directories(write(tmp_path / "a.tif", tiled(300, 200), then=2**31)))) == 1


def test_a_slide_within_the_limits_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiled(300, 200), tiled(150, 100))
    check_directories(path, "a")
    check_tile_bytes(path, "a")


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"t256": (LONG, (MAX_SIDE_PX + 1,))}, "an image of 1048577 x 200 px"),
        ({"t322": (LONG, (2**14,)), "t323": (LONG, (2**13,))}, "tiles of 16384 x 8192 px"),
        ({"t324": (LONG, MAX_TILES + 1, 8)}, "lists 4194305 tiles"),
    ],
)
def test_sizes_above_the_limits_are_refused(tmp_path: Path, tags: dict, problem: str) -> None:
    path = write(tmp_path / "a.tif", tiled(300, 200, **tags))
    with pytest.raises(SlideOpenError, match=f"slide case 7: .*a.tif is TIFF, but it .*{problem}"):
        check_directories(path, "case 7")


def test_directories_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiled(300, 200), tiled(150, 100), then=0)
    with pytest.raises(SlideOpenError, match="run in a circle"):
        check_directories(path, "a")


@pytest.mark.parametrize("kind", [SHORT, LONG, LONG8])
def test_a_tile_of_more_bytes_than_the_file_is_refused(tmp_path: Path, kind: int) -> None:
    stated = {SHORT: 60_000, LONG: 2**31, LONG8: 2**40}[kind]
    image = tiled(300, 200, t325=(kind, (64, stated)))
    path = write(tmp_path / "a.tif", image, big=kind == LONG8)
    check_directories(path, "a")
    with pytest.raises(SlideOpenError, match=f"states {stated} bytes for a tile"):
        check_tile_bytes(path, "a")
