"""Rule by which TIFF files are read tile by tile, or left to a slide library."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import tifffile
from tiff_layouts import LEVELS, tiff, without_tile
from tiny_slides import APERIO, write_tiff

from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.tiff.layout import LibraryOnly, tile_layouts
from noctile.pipeline.slides.tiffslide import TiffSlideSource

FOUR = np.zeros((64, 64, 4), np.uint8)


def reason_of(path: Path) -> str:
    """Reason for which a file is left to the library that opens it."""
    with closing(open_slide(path, mpp=0.25)) as reader:
        assert reader.info.reader in {"openslide", "tiffslide"}
        library = OpenSlideSource if reader.info.reader == "openslide" else TiffSlideSource
    with closing(library(path, "a")) as source:
        found = tile_layouts(path, source.info)
    assert isinstance(found, LibraryOnly)
    return found.reason


def test_only_reductions_above_40_db_are_offered(tmp_path: Path) -> None:
    for subsampling, factors in (
        ((2, 1), []),
        ((2, 2), [2, 4, 8]),
        ((1, 1), [2, 4, 8]),
        ((4, 1), []),
    ):
        path = write_tiff(tmp_path / "a.tif", LEVELS[:1], 0.25, 0.25, subsampling=subsampling)
        with closing(OpenSlideSource(path, "a")) as source:
            (grid,) = tile_layouts(path, source.info)
        assert list(grid.reductions) == factors


def other_size(path: Path) -> Path:
    """Write tiles with sides of 64 px in the tags and of 32 px in the streams."""
    streams = [simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8)) for _ in range(4)]
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "ycbcr", "compression": "jpeg", "metadata": None}
        file.write(iter(streams), shape=(128, 128, 3), dtype=np.uint8, tile=(64, 64), **options)
    return path


def reversed_bits(path: Path) -> Path:
    """Turn the tag Orientation into FillOrder, which tifffile does not write."""
    orientation, fill_order = (
        code.to_bytes(2, "little") + b"\x03\x00\x01\x00\x00\x00" for code in (274, 266)
    )
    content = path.read_bytes()
    assert content.count(orientation) == 1
    path.write_bytes(content.replace(orientation, fill_order))
    return path


def one_level(**options: Any) -> Callable[[Path], Path]:
    return lambda path: write_tiff(path, LEVELS[:1], 0.25, 0.25, "deflate", **options)


KEPT = {
    "strips": (one_level(tile=None), "is stored in strips"),
    "planes": (one_level(planarconfig="separate"), "stores each colour in a plane of its own"),
    "turned": (one_level(extratags=[(274, 3, 1, 3, True)]), "is stored upside down or turned"),
    "bits reversed": (
        lambda path: reversed_bits(one_level(extratags=[(274, 3, 1, 2, True)])(path)),
        "in reverse order",
    ),
    "CMYK": (
        lambda path: write_tiff(
            path, [FOUR], 0.25, 0.25, None, photometric="separated", extrasamples=None
        ),
        "has colours",
    ),
    "premultiplied": (
        lambda path: write_tiff(path, [FOUR], 0.25, 0.25, None, extrasamples=["assocalpha"]),
        "has extra samples",
    ),
    "16 bit": (
        lambda path: write_tiff(path, [LEVELS[0].astype(np.uint16)], 0.25, 0.25, None),
        "has pixels of more or less than 8 bits",
    ),
    "Aperio's YCbCr JPEG 2000": (tiff(compression=33003, description=APERIO), "codec (33003)"),
    "Aperio with missing tiles": (
        lambda path: without_tile(tiff(description=APERIO)(path), 0),
        "lacks tiles, which OpenSlide draws from other levels",
    ),
    "levels of the same size": (
        lambda path: write_tiff(path, [LEVELS[0], LEVELS[0]], 0.25, 0.25),
        "has levels of the same size",
    ),
    "streams of another size": (
        other_size,
        "has tiles that cannot be decoded: the stream holds 32 x 32 px",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_unusual_layouts_are_left_to_the_library_with_a_reason(tmp_path: Path, name: str) -> None:
    write, reason = KEPT[name]
    assert reason in reason_of(write(tmp_path / "a.tif"))


def test_vendors_with_special_levels_are_left_to_openslide(shared_data: Path) -> None:
    assert "vendor 'hamamatsu'" in reason_of(shared_data / "slides" / "fluorescence.ndpi")
    assert "cannot be decoded" in reason_of(shared_data / "slides" / "unreadable.svs")


def test_very_large_tiles_are_left_to_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_level()(tmp_path / "a.tif")
    monkeypatch.setattr("noctile.pipeline.slides.tiff.layout.MAX_TILE_PX", 64 * 64 - 1)
    assert reason_of(path) == "has tiles of more than 16 megapixels (level 0)"
