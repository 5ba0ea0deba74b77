"""Slides of a few hundred pixels, written with tifffile, and a pixel source that is a list of arrays."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from pipeline.geometry import Box, Extent
from pipeline.slides.pyramid import Facts


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A texture with structure at several scales, uint8 RGB."""
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (height // n + 2, width // n + 2, 3), dtype=np.uint8) for n in (2, 9, 31)]
    scaled = [np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)) for layer in layers]
    return np.mean(scaled, axis=0).astype(np.uint8)


def pyramid(pixels: np.ndarray, *factors: int) -> list[np.ndarray]:
    """Level 0 and coarser ones; rows and columns that do not fill a pixel are dropped, as scanners do."""
    levels = [pixels]
    for factor in factors:
        whole = pixels[: pixels.shape[0] // factor * factor, : pixels.shape[1] // factor * factor]
        levels.append(np.asarray(Image.fromarray(whole).reduce(factor)))
    return levels


def write_tiff(
    path: Path, levels: list[np.ndarray], mpp_y: float, mpp_x: float, compression: str | None = "jpeg"
) -> Path:
    """A tiled pyramid that both reader libraries open."""
    with tifffile.TiffWriter(path) as tiff:
        for k, level in enumerate(levels):
            tiff.write(
                level,
                tile=(64, 64),
                photometric="rgb",
                extrasamples=["unassalpha"] if level.shape[2] == 4 else None,
                compression=compression,
                subfiletype=1 if k else 0,
                resolution=(10_000 / mpp_x, 10_000 / mpp_y),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


class ArraySource:
    """A `PixelSource` over arrays; remembers the largest box that it gave out (px)."""

    def __init__(self, levels: list[np.ndarray], bounds: Box | None = None) -> None:
        self._levels = levels
        extents = tuple(Extent(*level.shape[:2]) for level in levels)
        self.facts = Facts("array", "array", extents, (0.5, 0.5), None, bounds, None)
        self.largest_px = 0
        self.levels_read: set[int] = set()

    def fetch(self, level: int, box: Box) -> np.ndarray:
        assert box.area
        assert Box.of(self.facts.extents[level]).contains(box)
        self.largest_px = max(self.largest_px, box.area)
        self.levels_read.add(level)
        return self._levels[level][box.slices()]

    def close(self) -> None:
        pass
