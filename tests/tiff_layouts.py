"""TIFF files in all layouts that are read tile by tile."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tiny_slides import APERIO, picture, pyramid, write_tiff, write_with_tables

from noctile.pipeline.slides.open import read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pyramid import PyramidReader
from noctile.pipeline.slides.tiffslide import TiffSlideSource

Pixels = np.ndarray


Library = type[OpenSlideSource] | type[TiffSlideSource]


GREY = picture(150, 200)[..., 0]


LEVELS = pyramid(picture(150, 200), 2)


RGB_JPEG = {"subsampling": (1, 1), "compressionargs": {"outcolorspace": "RGB"}}


def tiff(**options: Any) -> Callable[[Path], Path]:
    """Function that writes two levels, the finer one of 0.25 um/px."""
    return lambda path: write_tiff(path, LEVELS, 0.25, 0.25, **options)


def tables(subsampling: str, colours: str, photometric: str) -> Callable[[Path], Path]:
    return lambda path: write_with_tables(path, LEVELS[0], subsampling, colours, photometric)


def swapped(path: Path) -> Path:
    """Write a file again in the other byte order."""
    with tifffile.TiffFile(path) as old:
        page = old.pages.first
        streams = [bytes(data) for data in _streams(old)]
        options = {
            "jpegtables": page.jpegtables,
            "photometric": page.photometric,
            "compression": page.compression,
        }
    with tifffile.TiffWriter(path, byteorder=">") as new:
        resolution = {
            "resolution": (40_000, 40_000),
            "resolutionunit": "CENTIMETER",
            "metadata": None,
        }
        new.write(
            iter(streams), shape=page.shape, dtype=np.uint8, tile=(64, 64), **options, **resolution
        )
    return path


def _streams(file: tifffile.TiffFile) -> Iterator[bytes]:
    page = file.pages.first
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.filehandle.seek(offset)
        yield file.filehandle.read(count)


LAYOUTS = {
    "ycbcr 420": tiff(subsampling=(2, 2)),
    "ycbcr 422": tiff(subsampling=(2, 1)),
    "ycbcr 444": tiff(subsampling=(1, 1)),
    "rgb": tiff(**RGB_JPEG),
    "grey": lambda path: write_tiff(path, [GREY], 0.25, 0.25),
    "tables, ycbcr 420": tables("420", "YCBCR", "ycbcr"),
    "tables, ycbcr 422": tables("422", "YCBCR", "ycbcr"),
    "tables, rgb": tables("444", "RGB", "rgb"),
    "tables, rgb by the tag alone": tables("444", "YCBCR", "rgb"),
    "BigTIFF": tiff(file={"bigtiff": True}),
    "big-endian BigTIFF": tiff(file={"bigtiff": True, "byteorder": ">"}),
    "240-px tiles": tiff(tile=(240, 240)),
    "tiles wider than high": tiff(tile=(32, 128)),
    "Aperio": tiff(description=APERIO),
    "Aperio JPEG 2000 RGB": tiff(compression=33005, description=APERIO),
    "none": tiff(compression=None),
    "none, grey": lambda path: write_tiff(path, [GREY], 0.25, 0.25, None),
    **{codec: tiff(compression=codec) for codec in ("lzw", "deflate", "packbits", "zstd")},
    **{
        f"{codec}, predictor": tiff(compression=codec, predictor=True)
        for codec in ("lzw", "deflate", "zstd")
    },
    "deflate, grey predictor": lambda path: write_tiff(
        path, [GREY], 0.25, 0.25, "deflate", predictor=True
    ),
}


BY_TIFFSLIDE = {
    "webp": tiff(compression="webp"),
    "jpeg 2000": tiff(compression="jpeg2000"),
    "big-endian": tiff(file={"byteorder": ">"}),
    "big-endian tables": lambda path: swapped(
        write_with_tables(path, LEVELS[0], "420", "YCBCR", "ycbcr")
    ),
    "big-endian, none": tiff(compression=None, file={"byteorder": ">"}),
}


def through(library: Library, path: Path, mpp: float | None = None) -> PyramidReader:
    return read_with(library(path, path.stem), path, path.stem, mpp)


def without_tile(path: Path, number: int) -> Path:
    return with_tag(
        path,
        "TileByteCounts",
        lambda counts: [0 if k == number else n for k, n in enumerate(counts)],
    )


def with_tag(path: Path, tag: str, change: Callable[[Any], Any]) -> Path:
    """Change a tag of the first page of a file."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        found = file.pages.first.tags[tag]
        found.overwrite(change(found.value))
    return path
