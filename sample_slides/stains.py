"""Stains in tissue, and their colours on a slide."""

import numpy as np
from scipy import ndimage

from noctile.pipeline.arrays import Bool, Float32, UInt8
from sample_slides.cells import Cells, Territory, populate, settle
from sample_slides.fibres import Fibres, inflate, weave
from sample_slides.fields import blurred, highest, noise, soften
from sample_slides.recipe import CLASS_NAMES, FAT, LYMPHOCYTES, STROMA, TUMOR, Recipe, Stain


def stain_amounts(
    rng: np.random.Generator, codes: UInt8, recipe: Recipe, mpp: float
) -> tuple[Float32, Float32]:
    """Fill the classes with fibres, cells and nuclei.

    Args:
        rng: random number generator.
        codes: class codes, uint8 ``[h, w]``.
        recipe: sizes and amounts.
        mpp: pixel size (um).

    Returns:
        amounts of haematoxylin and eosin, float32 ``[h, w]`` each, in units of about one.
    """
    shape = codes.shape[0], codes.shape[1]
    stroma, fat = weave(rng, codes, mpp), inflate(rng, shape, mpp)
    fibres = Fibres(
        *(
            np.where(codes == FAT, *pair)
            for pair in ((fat.density, stroma.density), (fat.along, stroma.along))
        )
    )
    hollow = _hollow(rng, codes, recipe, mpp)
    groups = populate(rng, codes, hollow, fibres, recipe, mpp)
    territory = settle(groups, shape)
    tint = np.concatenate([rng.normal(0, 1, len(g.centre)) for g in groups]).astype(np.float32)
    grain = noise(rng, shape, 1.6 / mpp, 2)
    haze = noise(rng, shape, 60 / mpp, 3)
    soft = {k: soften(codes == k, 0.8 / mpp) for k in CLASS_NAMES}

    gap = _cell_gaps(territory, groups[0].reach, mpp)
    body = (0.78 + 0.1 * tint[territory.owner] + 0.10 * grain + 0.08 * haze) * (1 - gap)
    loose = np.clip(0.35 + 0.5 * stroma.density - 0.25, 0.05, 1)
    eosin = (
        soft[TUMOR] * recipe.body[0] * body
        + soft[STROMA] * stroma.density * (1 + 0.1 * haze + 0.08 * grain)
        + soft[FAT] * fat.density
    )
    eosin += soft[LYMPHOCYTES] * loose * 0.8 + 1.6 * soft[FAT] * (
        1 - soft[FAT]
    )  # a thin wall around the fat
    blue = (
        soft[TUMOR] * recipe.body[1] * body
        + soft[STROMA] * 0.07 * stroma.density
        + soft[FAT] * 0.06 * fat.density
    )
    blue += soft[LYMPHOCYTES] * 0.2 * loose
    if hollow.any():
        full = 1 - soften(hollow & (territory.depth > 1.15), 0.8 / mpp)
        blue, eosin = blue * full, eosin * full
    return _with_nuclei(blue, eosin, groups, territory, grain, mpp)


def _cell_gaps(territory: Territory, reach: float, mpp: float) -> Float32:
    """Paleness of the borders between cells and of the space outside them, 0..0.6."""
    wall = np.zeros(territory.owner.shape, bool)
    wall[:-1] |= territory.owner[:-1] != territory.owner[1:]
    wall[:, :-1] |= territory.owner[:, :-1] != territory.owner[:, 1:]
    border = ndimage.gaussian_filter(wall.astype(np.float32), 0.35 / mpp) * 0.6
    return np.clip(border + (territory.depth > reach - 0.1) * 0.4, 0, 0.6)


def _hollow(rng: np.random.Generator, codes: UInt8, recipe: Recipe, mpp: float) -> Bool:
    """Mask of the lumens of glands, away from the edges of their nests."""
    if not recipe.lumen:
        return np.zeros(codes.shape, bool)
    shape = codes.shape[0], codes.shape[1]
    inner = blurred(codes == TUMOR, 12 / mpp) > 0.75
    return highest(noise(rng, shape, recipe.lumen_um / mpp, 3), inner, recipe.lumen)


def _with_nuclei(
    blue: Float32,
    eosin: Float32,
    groups: tuple[Cells, ...],
    territory: Territory,
    grain: Float32,
    mpp: float,
) -> tuple[Float32, Float32]:
    """Draw nuclei over the stains: a dark rim, chromatin, and a nucleolus in pale nuclei."""
    dark, pale = (np.concatenate([getattr(g, name) for g in groups]) for name in ("dark", "open"))
    centre, axes = (
        np.concatenate([getattr(g, name) for g in groups]) for name in ("centre", "axes")
    )
    y, x = np.nonzero(territory.depth < 1.15)
    cell, depth = territory.owner[y, x], territory.depth[y, x]
    cover = np.clip((1.06 - depth) / 0.12, 0, 1)
    rim = np.exp(-(((depth - 0.9) / 0.13) ** 2))
    spot = centre[cell] + 0.3 * axes[cell, 1:] * np.stack(
        [np.cos(cell * 2.4), np.sin(cell * 2.4)], axis=1
    )
    nucleolus = np.exp(-(((y - spot[:, 0]) ** 2 + (x - spot[:, 1]) ** 2) * (mpp / 1.1) ** 2))
    chromatin = (
        1
        - pale[cell] * (0.5 - 0.45 * rim - 0.75 * nucleolus)
        + (0.1 + 0.2 * pale[cell]) * grain[y, x]
    )
    blue[y, x] += cover * (dark[cell] * chromatin - blue[y, x])
    eosin[y, x] += cover * (0.22 - eosin[y, x])
    return blue, eosin


def develop(
    rng: np.random.Generator,
    blue: Float32,
    eosin: Float32,
    stain: Stain,
    mpp: float,
    veil: Float32 | None = None,
) -> UInt8:
    """Convert stains to the light of a scanner: Beer-Lambert's law, blur and noise.

    Args:
        rng: random number generator.
        blue: amount of haematoxylin, float32 ``[h, w]``.
        eosin: amount of eosin, float32 ``[h, w]``.
        stain: colours of the stains.
        mpp: pixel size (um).
        veil: optical density of ink and dust on the glass, float32 ``[h, w, 3]``, or None.

    Returns:
        RGB, uint8 ``[h, w, 3]``.
    """
    shape = blue.shape[0], blue.shape[1]
    rgb = np.empty((*shape, 3), np.uint8)
    shade = 1 + 0.006 * noise(rng, shape, 900 / mpp)
    for k in range(3):
        density = stain.haematoxylin[k] * np.maximum(blue, 0) + stain.eosin[k] * np.maximum(
            eosin, 0
        )
        if veil is not None:
            density = density + veil[..., k]
        light = ndimage.gaussian_filter(stain.glass[k] * shade * np.exp(-density), 0.3 / mpp)
        light += 1.2 * rng.standard_normal(shape, dtype=np.float32)
        rgb[..., k] = np.clip(light + 0.5, 0, 255)
    return rgb
