"""Nuclei, and the pixels that belong to each cell."""

from dataclasses import dataclass, replace

import numpy as np

from noctile.pipeline.arrays import Bool, Float32, Int64, UInt8
from sample_slides.fibres import Fibres
from sample_slides.fields import scatter
from sample_slides.recipe import FAT, LYMPHOCYTES, STROMA, TUMOR, Recipe


@dataclass(frozen=True, slots=True)
class Cells:
    """Nuclei as ellipses with a bumpy edge, one in each row of the arrays.

    Attributes:
        centre: y and x of the centre (px), float32 ``[n, 2]``.
        axes: half axes (px), the longer one first, float32 ``[n, 2]``.
        angle: angle of the longer axis (radians, from x towards y), float32 ``[n]``.
        bumps: relative heights of the 2nd, 3rd and 5th harmonic of the edge, float32 ``[n, 3]``.
        dark: amount of haematoxylin in the nucleus, float32 ``[n]``.
        open: paleness inside the nucleus, 0 (clumped) to 1 (vesicular with a nucleolus), float32
            ``[n]``.
        reach: radius of a cell in half axes of its nucleus.
    """

    centre: Float32
    axes: Float32
    angle: Float32
    bumps: Float32
    dark: Float32
    open: Float32
    reach: float


def _cells(
    rng: np.random.Generator,
    centre: Float32,
    half_px: tuple[float, float],
    slender: tuple[float, float],
    look: tuple[float, float, float],
    reach: float = 1.15,
) -> Cells:
    """Draw nuclei at given centres.

    Args:
        rng: random number generator.
        centre: y and x of the centres (px), float32 ``[n, 2]``.
        half_px: range of the longer half axis (px).
        slender: range of the ratio of the shorter to the longer axis.
        look: mean haematoxylin, mean paleness, and height of the bumps.
        reach: radius of a cell in half axes of its nucleus.
    """
    n = len(centre)
    long = rng.uniform(*half_px, n) * np.exp(rng.normal(0, 0.08, n))
    axes = np.stack([long, long * rng.uniform(*slender, n)], axis=1)
    dark, pale, bumpy = look
    return Cells(
        centre,
        axes.astype(np.float32),
        rng.uniform(0, np.pi, n).astype(np.float32),
        (bumpy * rng.normal(0, 1, (n, 3)) * (0.5, 1, 0.6)).astype(np.float32),
        (dark * np.exp(rng.normal(0, 0.16, n))).astype(np.float32),
        np.clip(pale * rng.uniform(0.4, 1.5, n), 0, 1).astype(np.float32),
        reach,
    )


def populate(
    rng: np.random.Generator, codes: UInt8, hollow: Bool, fibres: Fibres, recipe: Recipe, mpp: float
) -> tuple[Cells, ...]:
    """Draw the nuclei of a tissue.

    Args:
        rng: random number generator.
        codes: class codes, uint8 ``[h, w]``.
        hollow: mask of the lumens of glands, which have no nuclei.
        fibres: fibres of stroma and walls of fat cells.
        recipe: sizes of the tumor cells.
        mpp: pixel size (um).

    Returns:
        nuclei of the tumor, along fibres and walls, of the infiltrate, and of single lymphocytes.
    """
    um = 1 / mpp
    tumor, stroma, lymph, fat = (codes == k for k in (TUMOR, STROMA, LYMPHOCYTES, FAT))
    size = recipe.nucleus_um * um
    thin = scatter(
        rng, (stroma & (fibres.density > 0.2)) | (fat & (fibres.density > 0.35)), 22 * um, 0.8
    )
    spindles = _cells(rng, thin, (4.5 * um, 9 * um), (0.13, 0.3), (1.5, 0.1, 0.05))
    y, x = thin.astype(int).T
    spindles = replace(
        spindles, angle=(fibres.along[y, x] + rng.normal(0, 0.15, len(y))).astype(np.float32)
    )
    crowd = scatter(rng, tumor & ~hollow, recipe.cell_um * um, 0.96)
    small, clumped = (2.7 * um, 3.5 * um), (1.75, 0.15, 0.04)
    return (
        _cells(
            rng,
            crowd,
            (0.8 * size, 1.3 * size),
            (0.6, 0.95),
            (recipe.dark, recipe.open, 0.07),
            reach=max(2.3, 0.75 * recipe.cell_um / recipe.nucleus_um),
        ),
        spindles,
        _cells(rng, scatter(rng, lymph, 8.2 * um, 0.9), small, (0.8, 1.0), clumped),
        _cells(rng, scatter(rng, tumor | stroma, 24 * um, 0.08), small, (0.8, 1.0), clumped),
    )


@dataclass(frozen=True, slots=True)
class Territory:
    """Cell to which each pixel belongs.

    Attributes:
        owner: row of the cell in all groups of cells together, -1 outside all cells, int64
            ``[h, w]``.
        depth: distance from the cell's centre in half axes of its nucleus, float32 ``[h, w]``; 1 is
            the edge of the nucleus.
    """

    owner: Int64
    depth: Float32


_FINE = 4096  # depths are compared in steps of 1 / _FINE


_NO_CELL = np.iinfo(np.int64).max


_BATCH_PX = 8_000_000  # pixels that are drawn at once, a limit on memory


def settle(groups: tuple[Cells, ...], shape: tuple[int, int]) -> Territory:
    """Give each pixel to the nearest cell, in units of the cell's size and within its reach.

    Args:
        groups: groups of cells.
        shape: rows and columns (px).
    """
    best = np.full(shape[0] * shape[1], _NO_CELL, np.int64)
    first = 0
    for cells in groups:
        half = int(np.ceil(cells.axes.max(initial=0) * cells.reach)) + 1
        step = max(1, _BATCH_PX // (2 * half + 1) ** 2)
        for start in range(0, len(cells.centre), step):
            rows = slice(start, min(start + step, len(cells.centre)))
            _claim(best, shape, cells, rows, first, half)
        first += len(cells.centre)
    owner = np.where(best == _NO_CELL, -1, best & 0xFFFFFFFF).reshape(shape)
    depth = np.where(best == _NO_CELL, 99, (best >> 32) / _FINE).astype(np.float32).reshape(shape)
    return Territory(owner, depth)


def _claim(
    best: Int64, shape: tuple[int, int], cells: Cells, rows: slice, first: int, half: int
) -> None:
    """Lower ``best`` to the depths of some cells.

    Args:
        best: depth in the upper 32 bits and cell in the lower 32 bits, int64 ``[h * w]``; changed
            in place.
        shape: rows and columns (px).
        cells: a group of cells.
        rows: rows of the group to draw.
        first: number of cells in earlier groups.
        half: half side of the square that is drawn for each cell (px).
    """
    centre, axes = cells.centre[rows], cells.axes[rows]
    cos, sin = (f(cells.angle[rows])[:, None, None] for f in (np.cos, np.sin))
    whole = np.floor(centre).astype(np.int64)
    y, x = (
        whole[:, k, None, None] + o
        for k, o in enumerate(np.ogrid[-half : half + 1, -half : half + 1])
    )
    dy, dx = ((a - centre[:, k, None, None]).astype(np.float32) for k, a in enumerate((y, x)))
    u = (cos * dx + sin * dy) / axes[:, 0, None, None]
    v = (cos * dy - sin * dx) / axes[:, 1, None, None]
    radius = np.hypot(u, v)
    around = np.arctan2(v, u)
    edge = sum(
        cells.bumps[rows, k, None, None] * np.cos(n * around + k) for k, n in enumerate((2, 3, 5))
    )
    depth = radius / (1 + edge)
    inside = (depth < cells.reach) & (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
    index = np.broadcast_to(
        np.arange(first + rows.start, first + rows.stop)[:, None, None], inside.shape
    )[inside]
    np.minimum.at(
        best, (y * shape[1] + x)[inside], ((depth[inside] * _FINE).astype(np.int64) << 32) | index
    )
