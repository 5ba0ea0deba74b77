"""Stain normalization: bring the haematoxylin and eosin of a slide to the amounts of the training.

The amounts of a slide are measured once, before its first tile, and all its tiles are changed in
the same way. Therefore neighbouring tiles agree, and a pixel does not depend on the rest of its
tile. The method is that of Macenko et al. (2009, doi 10.1109/ISBI.2009.5193250), with the stain
vectors in `noctile.pipeline.stain_candidates.STAINS`, which also gives the reason for them.
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
"""Amounts of haematoxylin and of eosin (natural optical density)."""

PERCENTILE = 99.0
"""Percentile of the amounts in tissue that stands for the amount of a stain. (Macenko et al. 2009)
"""

_TISSUE = 0.3
"""Smallest sum of both stains in tissue; a pixel with less is glass. (Macenko et al. 2009 use 0.15
in each channel)"""

_MOST = 2.5
"""Largest factor by which a stain is made stronger or weaker. A slide with almost none of a stain
holds only noise there."""

_BINS, _HIGHEST = 2048, 8.0
"""Number of bins of the histogram of amounts, and its upper end. A bin is 0.004 wide; black has 5.5
in each channel."""

_ROWS = 64
"""Number of rows that are changed at once, so that they stay in the cache of the processor."""


def stain_amounts(pixels: Iterable[UInt8]) -> Amounts | None:
    """Amounts of haematoxylin and eosin of a slide: the `PERCENTILE` in tissue, rounded to 0.001.

    Args:
        pixels: parts of the slide, uint8 ``[..., 3]``, one in memory at a time.

    Returns:
        None if there is no tissue.
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
    """Function that changes the stains of the pixels of one slide.

    Attributes:
        found: amounts of both stains in the slide, as it is.
        wanted: amounts of both stains that the slide is changed to.
    """

    found: Amounts
    wanted: Amounts

    def __call__(self, rgb: UInt8) -> UInt8:
        """Changed pixels, uint8 ``[..., 3]`` of the same shape.

        Each pixel of the result depends on the same pixel of the argument only.
        """
        out = np.empty_like(rgb)
        pixels, changed = rgb.reshape(-1, rgb.shape[-2], 3), out.reshape(-1, rgb.shape[-2], 3)
        for y in range(0, len(pixels), _ROWS):
            red, green, blue = (np.ascontiguousarray(pixels[y : y + _ROWS, :, k]) for k in range(3))
            for channel in range(3):
                light = self._light[0, channel].take(red)
                light *= self._light[1, channel].take(green)
                light *= self._light[2, channel].take(blue)
                light -= np.float32(0.5)  # - 1 because `DENSITY` adds 1, + 0.5 to round
                changed[y : y + _ROWS, :, channel] = np.clip(light, 0, 255, out=light)
        return out

    @cached_property
    def _light(self) -> Float32:
        """Tables ``[3, 3, 256]`` of factors; their product over the first axis is the new light.

        Axes: channel of the old pixel, channel of the new pixel, value of the old channel.
        """
        wanted, found = np.array(self.wanted), np.maximum(self.found, 1e-3)
        factors = np.clip(wanted / found, 1 / _MOST, _MOST)
        mixing = TO_STAINS @ np.diag([*factors, 1.0]) @ FROM_STAINS
        light = np.exp(-mixing[:, :, None] * DENSITY)
        light[0] *= 256
        return np.asarray(light, np.float32)


@dataclass(frozen=True, slots=True)
class NormalizedPredictor:
    """A predictor for one slide, which changes the stains of its tiles before prediction.

    Attributes:
        predict: predictor for tiles with the stains that its card asks for.
        normalize: function that changes the stains of a tile.
    """

    predict: Predictor
    normalize: StainNormalizer

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.predict.card

    @property
    def batch_size(self) -> int:
        """The number of tiles in a batch that suits the model."""
        return self.predict.batch_size

    def __call__(self, tiles: UInt8) -> Any:
        """Class probabilities as for `Predictor`."""
        return self.predict(self.normalize(tiles))

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """Labels as for `noctile.pipeline.models.predictor.LabelPredictor`."""
        return predict_labels(self.predict, self.normalize(tiles), part)


def predictor_for_slide(predict: Predictor, found: Amounts | None) -> Predictor:
    """A predictor that changes the stains of one slide, if the card of the model asks for it.

    Args:
        predict: the model.
        found: `stain_amounts` of the slide.

    Returns:
        ``predict`` itself if its card asks for no stain, or if ``found`` is None.
    """
    wanted = predict.card.stain
    if wanted is None or found is None:
        return predict
    return NormalizedPredictor(predict, StainNormalizer(found, wanted))
