"""Stain normalization: a slide's haematoxylin and eosin brought to the amounts that a model was
trained with.

A slide's amounts are measured once, before its first tile, and all its tiles are changed alike:
neighbours agree, and a pixel does not depend on what else is in its tile. As Macenko et al. (2009,
doi 10.1109/ISBI.2009.5193250) do, but with the stain vectors that
`noctile.pipeline.stain_candidates.STAINS` gives and says why.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from noctile.pipeline.arrays import Float32, UInt8
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.pixel_labels import PixelLabels
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.pipeline.slides.channel_order import DENSITY
from noctile.pipeline.stain_candidates import FROM_STAINS, TO_STAINS

Amounts = tuple[float, float]
"""Of haematoxylin and of eosin: natural optical density."""

PERCENTILE = 99.0
"""Of the amounts in tissue: what a stain reaches where there is much of it. (Macenko et al. 2009)
"""

_TISSUE = 0.3
"""With less of both stains together a pixel is glass. (Macenko et al. 2009: 0.15 in each channel)
"""

_MOST = 2.5
"""No stain is made stronger or weaker than by this factor: where a slide has next to none, there is
only noise."""

_BINS, _HIGHEST = 2048, 8.0
"""Amounts are counted in bins of 0.004; black has 5.5 in each channel."""

_ROWS = 64
"""Rows that are changed at once: they stay in the processor's cache."""


def stain_amounts(pixels: Iterable[UInt8]) -> Amounts | None:
    """The `PERCENTILE` of haematoxylin and of eosin in tissue, rounded to 0.001; None where there
    is no tissue.

    Args:
        pixels: parts of a slide, uint8 ``[..., 3]``, one in memory at a time.
    """
    counts = np.zeros((2, _BINS), np.int64)
    to_stains = TO_STAINS[:, :2].astype(np.float32)
    for part in pixels:
        for rows in np.array_split(part.reshape(-1, 3), 1 + part.size // 2**21):
            amounts = DENSITY[rows] @ to_stains
            tissue = amounts[amounts.sum(axis=1) > _TISSUE]
            bins = np.clip(tissue * (_BINS / _HIGHEST), 0, _BINS - 1).astype(np.int64)
            for stain, values in enumerate(bins.T):
                counts[stain] += np.bincount(values, minlength=_BINS)
    if not counts.any():
        return None
    below = np.cumsum(counts, axis=1)
    first = [int(np.searchsorted(row, row[-1] * PERCENTILE / 100)) for row in below]
    return round((first[0] + 0.5) * _HIGHEST / _BINS, 3), round(
        (first[1] + 0.5) * _HIGHEST / _BINS, 3
    )


@dataclass(frozen=True)
class StainNormalizer:
    """Changes pixels of one slide.

    Attributes:
        found: amounts of the slide.
        wanted: amounts that it shall have.
    """

    found: Amounts
    wanted: Amounts

    def __call__(self, rgb: UInt8) -> UInt8:
        """uint8 ``[..., 3]`` of the same shape; each pixel is a function of itself alone."""
        out = np.empty_like(rgb)
        pixels, changed = rgb.reshape(-1, rgb.shape[-2], 3), out.reshape(-1, rgb.shape[-2], 3)
        for y in range(0, len(pixels), _ROWS):
            red, green, blue = (np.ascontiguousarray(pixels[y : y + _ROWS, :, k]) for k in range(3))
            for channel in range(3):
                light = self._light[0, channel].take(red)
                light *= self._light[1, channel].take(green)
                light *= self._light[2, channel].take(blue)
                light -= np.float32(0.5)  # 1 less, as `DENSITY` adds 1, and rounded
                changed[y : y + _ROWS, :, channel] = np.clip(light, 0, 255, out=light)
        return out

    @cached_property
    def _light(self) -> Float32:
        """Light of each channel (second axis) as a product of what each channel of the pixel
        (first) lets through.
        """
        wanted, found = np.array(self.wanted), np.maximum(self.found, 1e-3)
        factors = np.clip(wanted / found, 1 / _MOST, _MOST)
        mixing = TO_STAINS @ np.diag([*factors, 1.0]) @ FROM_STAINS
        light = np.exp(-mixing[:, :, None] * DENSITY)
        light[0] *= 256
        return np.asarray(light, np.float32)


@dataclass(frozen=True, slots=True)
class NormalizedPredictor:
    """A predictor that is shown the tiles of one slide as its card wants them stained."""

    predict: Predictor
    normalize: StainNormalizer

    @property
    def card(self) -> ModelCard:
        """The model's."""
        return self.predict.card

    @property
    def batch_size(self) -> int:
        """The model's."""
        return self.predict.batch_size

    def __call__(self, tiles: UInt8) -> Any:
        """As the model's own, see `Predictor`."""
        return self.predict(self.normalize(tiles))

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """As the model's own, see `predict_labels`."""
        return predict_labels(self.predict, self.normalize(tiles), part)


def normalized(predict: Predictor, found: Amounts | None) -> Predictor:
    """The predictor for a slide: itself where its card asks for no stain, or nothing was found of
    the slide's.

    Args:
        predict: for any slide.
        found: `stain_amounts` of this one.
    """
    wanted = predict.card.stain
    if wanted is None or found is None:
        return predict
    return NormalizedPredictor(predict, StainNormalizer(found, wanted))
