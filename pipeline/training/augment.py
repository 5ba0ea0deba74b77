"""Augmentation of training crops: orientation, scale, stain, light and focus.

It prepares a model for stains and scanners that it has not seen. All random values are drawn from
the generator that is passed in, so that a crop depends on its seed alone.
"""

from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.slides.channel_order import DENSITY
from noctile.pipeline.stain_candidates import FROM_STAINS, TO_STAINS

Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in grey. (ITU-R BT.601)"""


class Variation(BaseModel):
    """Limits of the augmentation; 0 (for scale: 1) switches a part off.

    Attributes:
        scale: largest factor by which crops are enlarged or reduced.
        stain: standard deviation of the logarithm of the amounts of haematoxylin and of eosin. (HED
            jitter: Tellez et al. 2018, doi 10.1109/TMI.2018.2820199)
        hue: standard deviation of the mixing of the colour channels in optical density.
        grey: share of the crops that lose some or all of their colour.
        light: largest relative change of the brightness.
        blur: share of the crops that are blurred.
        blur_px: largest standard deviation of the blur (px).
        noise: largest standard deviation of the added noise (grey levels of 255).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Annotated[float, Field(ge=1, le=4)] = 1.3
    stain: Spread = 0.3
    hue: Spread = 0.08
    grey: Share = 0.15
    light: Share = 0.1
    blur: Share = 0.4
    blur_px: Spread = 1.3
    noise: Spread = 4.0


def turn_crop(rng: np.random.Generator, rgb: UInt8, targets: UInt8) -> tuple[UInt8, UInt8]:
    """Rotate and mirror pixels ``[n, n, 3]`` and targets ``[n, n]`` in one of eight ways."""
    turns, mirror = int(rng.integers(4)), int(rng.choice((1, -1)))
    return np.rot90(rgb, turns)[:, ::mirror], np.rot90(targets, turns)[:, ::mirror]


def draw_scale(rng: np.random.Generator, spec: Variation) -> float:
    """Draw a factor between ``1 / spec.scale`` and ``spec.scale``, uniform in its logarithm."""
    return float(np.exp(rng.uniform(-1, 1) * np.log(spec.scale)))


def resize_crop(rgb: UInt8, targets: UInt8, side_px: int) -> tuple[UInt8, UInt8]:
    """Resize a crop to ``side_px``; targets take the value of the nearest pixel."""
    if rgb.shape[0] == side_px:
        return rgb, targets
    size = (side_px, side_px)
    pixels = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(pixels), np.asarray(
        Image.fromarray(targets).resize(size, Image.Resampling.NEAREST)
    )


def vary_appearance(rng: np.random.Generator, rgb: UInt8, spec: Variation) -> UInt8:
    """Change a crop as if it came from another laboratory and another scanner.

    In optical density, haematoxylin and eosin are scaled separately and the channels are mixed a
    little. Then brightness, colour, focus and noise change.

    Args:
        rng: generator of all random values.
        rgb: pixels, uint8 ``[h, w, 3]``.
        spec: limits of the changes.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    amounts = np.diag(np.exp(rng.normal(0, np.array([1, 1, 0.4]) * spec.stain)))
    mixing = TO_STAINS @ amounts @ FROM_STAINS @ (np.eye(3) + rng.normal(0, spec.hue, (3, 3)))
    density = DENSITY[rgb] @ mixing.astype(np.float32)
    lamp = np.float32(256 * rng.uniform(1 - spec.light, 1 + spec.light / 2))
    light = lamp * np.exp(-np.maximum(density, 0))
    if rng.random() < spec.grey:
        grey = (light @ _LUMA)[..., None]
        light = grey + (light - grey) * np.float32(rng.random())
    if rng.random() < spec.blur:
        sigma_px = rng.uniform(0, spec.blur_px)
        light = ndimage.gaussian_filter(light, (sigma_px, sigma_px, 0), truncate=3)
    light += rng.standard_normal(light.shape, np.float32) * np.float32(rng.uniform(0, spec.noise))
    varied: UInt8 = np.clip(light, 0, 255).astype(np.uint8)
    return varied
