"""Slides of a few hundred pixels, written with tifffile, and a pixel source over arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.source import Reduction, SourceInfo


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw a texture with structure at several scales, RGB, uint8 ``[height, width, 3]``."""
    rng = np.random.default_rng(seed)
    layers = [
        rng.integers(0, 256, (height // n + 2, width // n + 2, 3), dtype=np.uint8)
        for n in (2, 9, 31)
    ]
    scaled = [
        np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC))
        for layer in layers
    ]
    return np.mean(scaled, axis=0).astype(np.uint8)


def pyramid(pixels: np.ndarray, *factors: int) -> list[np.ndarray]:
    """Make coarser levels of level 0.

    Like in scanners' files, rows and columns that do not fill a pixel are dropped.
    """
    levels = [pixels]
    for factor in factors:
        whole = pixels[: pixels.shape[0] // factor * factor, : pixels.shape[1] // factor * factor]
        levels.append(np.asarray(Image.fromarray(whole).reduce(factor)))
    return levels


@contextmanager
def packed() -> Iterator[None]:
    """Skip a test whose file has samples of few bits, if imagecodecs cannot write it."""
    try:
        yield
    except NotImplementedError as error:
        pytest.skip(f"this version of imagecodecs cannot write the file: {error}")


def write_tiff(
    path: Path,
    levels: list[np.ndarray],
    mpp_y: float,
    mpp_x: float,
    compression: str | int | None = "jpeg",
    *,
    file: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write a tiled pyramid that both reader libraries open.

    Args:
        path: the file.
        levels: pixels of the levels, finest first.
        mpp_y: height of a level-0 pixel (um).
        mpp_x: width of a level-0 pixel (um).
        compression: name or number of the codec.
        file: options of tifffile for the file.
        options: options of tifffile for each page.
    """
    with tifffile.TiffWriter(path, **file or {}) as tiff:
        for k, level in enumerate(levels):
            page = {
                "tile": (64, 64),
                "photometric": "minisblack" if level.ndim == 2 else "rgb",
                "extrasamples": ["unassalpha"] if level.shape[2:] == (4,) else None,
                "compression": compression,
                "subfiletype": 1 if k else 0,
                "resolution": (10_000 / mpp_x, 10_000 / mpp_y),
                "resolutionunit": "CENTIMETER",
                "metadata": None,
            }
            tiff.write(level, **page | options)
    return path


APERIO = "Aperio Image Library v11.2.1\n1x1 [0,0 1x1] (64x64)|AppMag = 40|MPP = 0.25"
"""ImageDescription of an Aperio slide."""


def write_with_tables(
    path: Path, pixels: np.ndarray, subsampling: str, colours: str, photometric: str
) -> Path:
    """Write one level of 0.25 um with its JPEG tables in the tag JPEGTables.

    Its streams have no application markers.

    Args:
        path: the file.
        pixels: RGB, uint8 ``[h, w, 3]``.
        subsampling: chroma subsampling: "444", "422" or "420".
        colours: colours in the streams: "YCBCR" or "RGB".
        photometric: photometric interpretation in the tag.
    """
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    tiles = [
        padded[y : y + 64, x : x + 64] for y in range(0, height, 64) for x in range(0, width, 64)
    ]
    streams = [
        bytes(
            imagecodecs.jpeg8_encode(
                t, 90, colorspace="RGB", outcolorspace=colours, subsampling=subsampling
            )
        )
        for t in tiles
    ]
    tables, scans = zip(*map(_without_tables, streams), strict=True)
    assert len(set(tables)) == 1
    options = {
        "shape": pixels.shape,
        "dtype": np.uint8,
        "jpegtables": tables[0],
        "photometric": photometric,
    }
    with tifffile.TiffWriter(path) as tiff:
        resolution = {
            "resolution": (40_000, 40_000),
            "resolutionunit": "CENTIMETER",
            "metadata": None,
        }
        tiff.write(iter(scans), tile=(64, 64), compression="jpeg", **options, **resolution)
    return path


def _without_tables(stream: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG stream into abbreviated tables and image. (ITU-T T.81, annex B.4 and B.5)"""
    tables, image, place = [], [], 2
    while stream[place + 1] != 0xDA:
        stop = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if stream[place + 1] in {0xDB, 0xC4}:
            tables.append(stream[place:stop])
        elif stream[place + 1] not in {0xE0, 0xEE}:
            image.append(stream[place:stop])
        place = stop
    return b"\xff\xd8" + b"".join(tables) + b"\xff\xd9", b"\xff\xd8" + b"".join(image) + stream[
        place:
    ]


class ArraySource:
    """`PixelSource` over arrays.

    Attributes:
        largest_px: area of the largest box that was read (px).
        levels_read: indexes of the levels that were read.
    """

    def __init__(
        self,
        levels: list[np.ndarray],
        bounds: Box | None = None,
        reductions: tuple[Reduction, ...] = (),
    ) -> None:
        reduced = [
            np.asarray(Image.fromarray(levels[r.level]).reduce(r.factor)) for r in reductions
        ]
        self._levels = [*levels, *reduced]
        extents = tuple(Extent(*level.shape[:2]) for level in levels)
        self.info = SourceInfo(
            "array", "array", extents, (0.5, 0.5), None, bounds, None, reductions
        )
        self.largest_px = 0
        self.levels_read: set[int] = set()

    def fetch(self, level: int, box: Box) -> np.ndarray:
        assert box.area
        assert Box.of(Extent(*self._levels[level].shape[:2])).contains(box)
        self.largest_px = max(self.largest_px, box.area)
        self.levels_read.add(level)
        return self._levels[level][box.slices()]

    def close(self) -> None:
        pass
