"""Fibres of stroma and walls of fat cells."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage, spatial

from noctile.pipeline.arrays import Float32, UInt8
from sample_slides.fields import blurred, noise, scatter
from sample_slides.recipe import TUMOR


@dataclass(frozen=True, slots=True)
class Fibres:
    """Density and direction of fibres or walls.

    Attributes:
        density: density of the fibres, float32 ``[h, w]``, from 0 (a cleft) to about 1.3.
        along: direction of the fibres (radians, from x towards y), float32 ``[h, w]``.
    """

    density: Float32
    along: Float32


def weave(rng: np.random.Generator, codes: UInt8, mpp: float) -> Fibres:
    """Draw wavy fibres that bend around tumor nests.

    The texture is noise that is long in one direction and short in the other, sampled at
    coordinates that smooth noise bends. Fibres run along lines of constant ``v``, the coordinate
    across them.

    Args:
        rng: random number generator.
        codes: class codes, uint8 ``[h, w]``.
        mpp: pixel size (um).
    """
    shape = codes.shape[0], codes.shape[1]
    turn = rng.uniform(0, np.pi)
    y, x = (np.float32(mpp) * a for a in np.ogrid[: shape[0], : shape[1]])
    u = np.cos(turn) * x + np.sin(turn) * y + 60 * noise(rng, shape, 300 / mpp)
    v = (
        np.cos(turn) * y
        - np.sin(turn) * x
        + 55 * noise(rng, shape, 300 / mpp)
        + 45 * blurred(codes == TUMOR, 22 / mpp)
    )
    v += 4 * noise(rng, shape, 36 / mpp, 2) + 0.7 * noise(rng, shape, 7 / mpp, 2)

    def strands(long_um: float, short_um: float) -> Float32:
        grid = rng.standard_normal((1021, 1021), dtype=np.float32)
        return ndimage.map_coordinates(grid, [v / short_um, u / long_um], order=1, mode="grid-wrap")

    bundles, fine, fibrils, clefts = (
        strands(70, 12),
        strands(24, 3.2),
        strands(9, 1.3),
        strands(30, 4),
    )
    density = np.clip(0.64 + 0.2 * bundles + 0.2 * fine + 0.18 * fibrils, 0.12, 1.4)
    loose = 0.5 * noise(rng, shape, 90 / mpp, 2) + 0.25 * bundles
    density *= np.clip(1 - 2.2 * (clefts - 1.2 + loose), 0.03, 1)
    return Fibres(np.asarray(density, np.float32), _contours(v))


def inflate(rng: np.random.Generator, shape: tuple[int, int], mpp: float) -> Fibres:
    """Draw the walls of round, empty fat cells, along the borders of a Voronoi diagram.

    Args:
        rng: random number generator.
        shape: rows and columns (px).
        mpp: pixel size (um).
    """
    step = max(1, round(1 / mpp))
    height, width = (-(-side // step) for side in shape)
    centres = scatter(rng, np.ones((height + 80, width + 80), bool), 58) - 40
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bent = np.stack([a + 5 * noise(rng, (height, width), 25) for a in (y, x)], axis=-1)
    distances, _ = spatial.cKDTree(centres).query(bent, k=3)
    near = np.asarray(distances, np.float32)
    gap = Image.fromarray(
        (near[..., 1] - near[..., 0]) * (near[..., 2] - near[..., 0]) / (near[..., 2] + 1)
    )
    gap_um = np.asarray(gap.resize((width * step, height * step), Image.Resampling.BICUBIC))[
        : shape[0], : shape[1]
    ]
    width_um = 0.9 + 0.25 * noise(rng, shape, 40 / mpp)
    return Fibres(
        0.75 / (1 + np.exp(np.minimum((gap_um - width_um) / 0.25, 50))), _contours(gap_um)
    )


def _contours(field: Float32) -> Float32:
    """Direction in which a field is constant (radians, from x towards y), on a grid of 4 px."""
    dy, dx = np.gradient(field[::4, ::4])
    along: Float32 = np.arctan2(-dx, dy).repeat(4, axis=0).repeat(4, axis=1)
    return along[: field.shape[0], : field.shape[1]]
