"""Write a large pyramidal slide with texture and irregular tissue, from a seed and in a short time.

    python -m benchmarks.make_slide big.tif --width 100000 --height 80000 --tissue 0.05

The slide has tiled JPEG (256 px, 4:2:0) and levels at 1, 4, 16 and 64, like those of scanners.
Tiles inside the tissue come from a pool of generated tissue, and all tiles of glass are one tile.
Only tiles on the edge of the tissue are drawn one by one. So a slide of 8 gigapixels takes a minute
and little memory.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy import ndimage

from noctile.pipeline.arrays import Bool, UInt8
from sample_slides.region import make_region

TILE_PX = 256
LEVELS = (1, 4, 16, 64)
CELL_PX = 32  # side of the cells on which the outline of the tissue is drawn (px of level 0)
JPEG_QUALITY = 80
GLASS = 243
POOL = 8  # the pool is POOL x POOL tiles cut from one generated region, so that neighbours fit

_Same = tuple[int, int, int] | None
"""Level, row and column that stand for all tiles with the same pixels; None for a tile with pixels
of its own."""


class SlideMaker:
    """Pixels of a slide that is stored only as a seed and an outline.

    Args:
        width: number of columns of level 0 (px).
        height: number of rows of level 0 (px).
        tissue: share of tissue in the slide, 0..1.
        mpp: pixel size of level 0 (um).
        seed: seed of the outline and the texture.
    """

    def __init__(self, width: int, height: int, tissue: float, mpp: float, seed: int) -> None:
        self.width, self.height, self.mpp = width, height, mpp
        rng = np.random.default_rng(seed)
        shape = (
            -(-height // CELL_PX) + TILE_PX // CELL_PX,
            -(-width // CELL_PX) + TILE_PX // CELL_PX,
        )
        noise = ndimage.zoom(
            rng.standard_normal((shape[0] // 64 + 2, shape[1] // 64 + 2)).astype(np.float32),
            64,
            order=3,
        )
        noise = noise[: shape[0], : shape[1]] + 0.15 * ndimage.gaussian_filter(
            rng.standard_normal(shape).astype(np.float32), 4
        )
        self._inside = (
            noise > np.quantile(noise, 1 - tissue) if tissue > 0 else np.zeros(shape, bool)
        )
        self._pool = make_region(seed, POOL * TILE_PX, POOL * TILE_PX, mpp)[0]
        self._tiles: dict[_Same, UInt8] = {}
        self._streams: dict[_Same, bytes] = {}
        self._glass = np.full((TILE_PX, TILE_PX, 3), GLASS, np.uint8)

    def tile(self, row: int, col: int) -> UInt8:
        """Draw a tile of level 0, uint8 ``[256, 256, 3]``."""
        cells = self._cells(0, row, col)
        if not cells.any():
            return self._glass
        y, x = row % POOL * TILE_PX, col % POOL * TILE_PX
        texture = self._pool[y : y + TILE_PX, x : x + TILE_PX]
        if cells.all():
            return texture
        cells = cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
        tile: UInt8 = np.where(cells[..., None], texture, self._glass)
        return tile

    def coarse(self, level: int, row: int, col: int) -> UInt8:
        """Draw a tile of a level as the mean of the finer one, uint8 ``[256, 256, 3]``."""
        if level == 0:
            return self.tile(row, col)
        same = self._same(level, row, col)
        if same in self._tiles:
            return self._tiles[same]
        out = np.empty((TILE_PX, TILE_PX, 3), np.uint8)
        part = TILE_PX // 4
        for r in range(4):
            for c in range(4):
                here = slice(r * part, (r + 1) * part), slice(c * part, (c + 1) * part)
                out[here] = self._quarter(level - 1, row * 4 + r, col * 4 + c)
        if same:
            self._tiles[same] = out
        return out

    def row(self, index: tuple[int, int]) -> list[bytes]:
        """Encode a row of tiles as JPEG streams; ``index`` is its level and its number."""
        level, row = index
        streams = []
        for col in range(-(-self.width // LEVELS[level] // TILE_PX)):
            same = self._same(level, row, col)
            stream = self._streams.get(same) or _jpeg(self.coarse(level, row, col))
            if same:
                self._streams[same] = stream
            streams.append(stream)
        return streams

    def write(self, path: Path, processes: int = 1) -> None:
        """Write the slide as BigTIFF.

        Args:
            path: the file to write.
            processes: number of processes that draw rows of tiles; 1 is this process.
        """
        with tifffile.TiffWriter(path, bigtiff=True) as tif, _rows_of(self, processes) as rows:
            for level, factor in enumerate(LEVELS):
                indexes = ((level, row) for row in range(-(-self.height // factor // TILE_PX)))
                tif.write(
                    chain.from_iterable(rows(indexes)),
                    shape=(-(-self.height // factor), -(-self.width // factor), 3),
                    dtype=np.uint8,
                    tile=(TILE_PX, TILE_PX),
                    photometric="ycbcr",
                    subsampling=(2, 2),
                    compression="jpeg",
                    subfiletype=1 if level else 0,
                    resolution=(1e4 / (self.mpp * factor), 1e4 / (self.mpp * factor)),
                    resolutionunit="CENTIMETER",
                    metadata=None,
                )

    def _cells(self, level: int, row: int, col: int) -> Bool:
        n = TILE_PX * LEVELS[level] // CELL_PX
        cells = np.zeros((n, n), np.bool_)  # glass beyond the slide
        inside = self._inside[row * n : (row + 1) * n, col * n : (col + 1) * n]
        cells[: inside.shape[0], : inside.shape[1]] = inside
        return cells

    def _same(self, level: int, row: int, col: int) -> _Same:
        """Find the `_Same` of a tile: it is all glass, or all tissue from the repeated pool."""
        cells = self._cells(level, row, col)
        if not cells.any():
            return (level, -1, -1)
        period = max(1, POOL // LEVELS[level])
        return (level, row % period, col % period) if cells.all() else None

    @lru_cache(maxsize=4096)  # noqa: B019
    def _quarter(self, level: int, row: int, col: int) -> UInt8:
        """Shrink a tile of ``level`` to 64 x 64 px."""
        side = TILE_PX // 4
        rows = self.coarse(level, row, col).reshape(side, 4, -1).sum(axis=1, dtype=np.uint16)
        sums = rows.reshape(side, side, 4, 3).sum(axis=2, dtype=np.uint16)
        mean: UInt8 = ((sums + 8) // 16).astype(np.uint8)
        return mean


_Rows = Callable[[Iterable[tuple[int, int]]], Iterable[list[bytes]]]


@contextmanager
def _rows_of(maker: SlideMaker, processes: int) -> Iterator[_Rows]:
    """Function that encodes many rows, in their order, see `SlideMaker.row`."""
    if processes == 1:
        yield partial(map, maker.row)
        return
    with get_context("spawn").Pool(processes, _keep_maker, (maker,)) as pool:
        yield partial(pool.imap, _row)


_maker: list[SlideMaker] = []


def _keep_maker(maker: SlideMaker) -> None:
    _maker.append(maker)


def _row(index: tuple[int, int]) -> list[bytes]:
    return _maker[0].row(index)


def _jpeg(tile: UInt8) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            tile, level=JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
        )
    )


def main() -> None:
    """Write a slide from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--width", type=int, default=100_000)
    parser.add_argument("--height", type=int, default=80_000)
    parser.add_argument(
        "--tissue", type=float, default=0.05, help="share of tissue in the slide, 0..1"
    )
    parser.add_argument("--mpp", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    SlideMaker(a.width, a.height, a.tissue, a.mpp, a.seed).write(
        a.path, len(os.sched_getaffinity(0))
    )
    print(f"{a.path}: {a.width} x {a.height} px, {a.path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
