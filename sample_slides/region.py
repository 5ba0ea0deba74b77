"""Region of stained tissue, with the class of each pixel."""

from typing import Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent, Frame
from sample_slides.layout import lay_out
from sample_slides.recipe import TRUTH_UM, Recipe
from sample_slides.stains import develop, stain_amounts


def make_region(
    seed: int,
    height: int,
    width: int,
    mpp: float,
    recipe: Recipe | None = None,
    *,
    outline: bool = False,
    varied: bool = False,
) -> tuple[UInt8, UInt8]:
    """Draw a piece of stained tissue and its truth.

    Args:
        seed: seed of the random numbers; the same seed gives the same pixels.
        height: number of rows (px).
        width: number of columns (px).
        mpp: pixel size (um), close to `TRUTH_UM` or a whole fraction of it.
        recipe: composition of the tissue; None to draw one.
        outline: True if the tissue ends within the region, with glass around it.
        varied: see `Recipe.draw`; used if a recipe is drawn.

    Returns:
        RGB, uint8 ``[height, width, 3]``, and class codes, uint8 ``[height, width]``.
    """
    rng = np.random.default_rng(seed)
    recipe = recipe or Recipe.draw(rng, varied)
    codes = enlarge(
        lay_out(rng, truth_shape(height, width, mpp), recipe, outline), height, width, mpp
    )
    return develop(rng, *stain_amounts(rng, codes, recipe, mpp), recipe.stain, mpp), codes


def truth_shape(height: int, width: int, mpp: float) -> tuple[int, int]:
    """Rows and columns of the truth of a region."""
    extent = Frame(Extent(height, width), mpp, mpp).at(TRUTH_UM).extent
    return extent.height, extent.width


def enlarge(coarse: npt.NDArray[Any], height: int, width: int, mpp: float) -> npt.NDArray[Any]:
    """Repeat the pixels of the truth to those of the slide."""
    factor = max(1, round(TRUTH_UM / mpp))
    return coarse.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
