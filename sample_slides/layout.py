"""Layout of a tissue: the class of each pixel."""

import numpy as np

from noctile.pipeline.arrays import Bool, UInt8
from sample_slides.fields import blurred, highest, noise, tidy
from sample_slides.recipe import FAT, GLASS, LYMPHOCYTES, STROMA, TRUTH_UM, TUMOR, Recipe


def lay_out(
    rng: np.random.Generator, shape: tuple[int, int], recipe: Recipe, outline: bool
) -> UInt8:
    """Draw the class of each pixel.

    Args:
        rng: random number generator.
        shape: rows and columns (px of `TRUTH_UM`).
        recipe: shares and sizes of the classes.
        outline: True if the tissue ends within the region, False if it fills the region.

    Returns:
        uint8 ``shape``, class codes; 0 is glass.
    """
    um = 1 / TRUTH_UM
    tissue = _outline(rng, shape) if outline else np.ones(shape, bool)
    codes = np.where(tissue, STROMA, GLASS).astype(np.uint8)
    nests = noise(rng, shape, recipe.nest_um * um, 4) + 0.7 * noise(rng, shape, 420 * um, 2)
    tumor = tidy(highest(nests, tissue, recipe.tumor), 2500 * um**2)
    near_tumor = blurred(tumor, 60 * um)
    fat = highest(noise(rng, shape, 300 * um, 2) - 5 * near_tumor, tissue, recipe.fat)
    codes[tidy(fat, 9000 * um**2)] = FAT
    free = codes == STROMA
    lymph = highest(
        noise(rng, shape, 110 * um, 3) + 2 * near_tumor - 20 * tumor,
        free,
        recipe.lymphocytes * tissue.sum() / max(free.sum(), 1),
    )
    codes[tidy(lymph & free, 1200 * um**2)] = LYMPHOCYTES
    codes[tumor & tissue] = TUMOR
    return codes


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Bool:
    um = 1 / TRUTH_UM
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    inside = 0.75 - (y / 0.86) ** 2 - (x / 0.86) ** 2
    field = (
        inside
        + 0.24 * noise(rng, shape, 0.35 * min(shape), 2)
        + 0.05 * noise(rng, shape, 50 * um, 4)
    )
    for side in (y, x):
        field = field - 8 * np.maximum(np.abs(side) - 0.82, 0)
    return tidy(field > 0, 20_000 * um**2)
