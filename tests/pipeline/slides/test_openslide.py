"""OpenSlide as a pixel source: its description of a file, and its cells of a fixed grid."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tiny_slides import APERIO, picture, pyramid, write_tiff

from noctile.pipeline.errors import SlideOpenError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides import openslide as openslide_module
from noctile.pipeline.slides.openslide import OpenSlideSource


def test_the_description_comes_from_the_vendors_metadata(tmp_path: Path) -> None:
    path = write_tiff(
        tmp_path / "a.svs", pyramid(picture(150, 200), 2), 1.0, 1.0, description=APERIO
    )
    with closing(OpenSlideSource(path, "a")) as source:
        info = source.info
    assert (info.reader, info.vendor, info.mpp, info.objective_power) == (
        "openslide",
        "aperio",
        (0.25, 0.25),
        40,
    )
    assert info.extents == (Extent(150, 200), Extent(75, 100))
    assert (info.bounds, info.reductions) == (None, ())


def test_a_level_with_a_fractional_downsample_is_read_in_fixed_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openslide_module, "_CELL_PX", 16)
    path = write_tiff(tmp_path / "a.tif", pyramid(picture(151, 203), 4), 0.25, 0.25)
    with closing(OpenSlideSource(path, "a")) as source:
        whole = Box.of(source.info.extents[1])
        box = Box(5, 7, 20, 30)
        assert np.array_equal(source.fetch(1, box), source.fetch(1, whole)[box.slices(whole)])


def test_cells_cover_the_box_and_stay_inside_the_level() -> None:
    cells = openslide_module._cells(Box(500, 600, 100, 10), Extent(560, 1000))
    assert cells == [Box(0, 512, 512, 488), Box(512, 512, 48, 488)]


def test_a_file_in_no_known_format_is_unopenable(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    with pytest.raises(SlideOpenError, match=r"slide case 7: .*a\.svs but cannot open it"):
        OpenSlideSource(tmp_path / "a.svs", "case 7")
