"""Boundaries drawn after the picture: a guided filter (He, Sun & Tang 2013) over a model's probabilities."""

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from pipeline.models.card import ModelCard, Predictor, UInt8

RADIUS_UM: Final = 2.0
"""Half the side of the windows in which probabilities follow the picture (um): a third of a nucleus."""

EPSILON: Final = 1e-2
"""Variance of grey (of 0..1) below which a window counts as even, and probabilities are averaged in it."""


class RefinedPredictor:
    """A predictor whose probabilities follow the edges of its tiles.

    In each window a class's probability is fitted as a line over the tile's grey, and the fits of all windows that a
    pixel lies in are averaged. Each tile is done alone and each pixel from its surroundings alone, so that a tile's
    answer does not depend on its batch. A pixel depends on the model's answers up to two radii away, far less than
    tiles overlap.

    Off by default, for it measures no better. Three networks, each on a BCSS region that it had not seen, twice: Dice
    at 0.5 changes by -0.015 to 0.000, at the best threshold by 0.000 to +0.016, where a plain average gives 0.000 to
    +0.013. A dense CRF (Kraehenbuehl & Koltun 2011, five settings) changes it by -0.228 to 0.000 at 0.5, by -0.378 to
    +0.001 at the best threshold, and takes seconds a region; so the guided filter is the one that is here.

    Args:
        predictor: whose probabilities are refined, on its own device.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._radius_px = max(1, round(RADIUS_UM / predictor.card.mpp))

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._predictor.card

    @property
    def batch_size(self) -> int:
        """As the predictor's."""
        return self._predictor.batch_size

    def __call__(self, tiles: UInt8) -> torch.Tensor:
        """See `Predictor`; float32 on the predictor's device.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        probabilities = torch.as_tensor(self._predictor(tiles))
        refined = (guided(p, tile, self._radius_px) for p, tile in zip(probabilities, tiles, strict=True))
        return torch.stack(list(refined))


def guided(probabilities: torch.Tensor, tile: UInt8, radius_px: int) -> torch.Tensor:
    """The probabilities of one tile, filtered with its grey as the guide.

    Args:
        probabilities: float32 ``[classes, h, w]``, each pixel's sum is 1.
        tile: uint8 ``[h, w, 3]``, RGB.
        radius_px: a window has ``2 * radius_px + 1`` pixels a side; at the tile's edge, those that are there.

    Returns:
        float32 ``[classes, h, w]``, likewise.
    """
    grey = torch.from_numpy(tile.mean(axis=2, dtype=np.float32)[None] / 255).to(probabilities.device)
    mean_grey, mean = _means(grey, radius_px), _means(probabilities, radius_px)
    variance = _means(grey * grey, radius_px) - mean_grey * mean_grey
    covariance = _means(probabilities * grey, radius_px) - mean * mean_grey
    slope = covariance / (variance.clamp(min=0) + EPSILON)
    offset = mean - slope * mean_grey
    refined = (_means(slope, radius_px) * grey + _means(offset, radius_px)).clamp(min=0)
    return refined / refined.sum(dim=0)


def _means(values: torch.Tensor, radius_px: int) -> torch.Tensor:
    """Mean of each pixel's window, along one axis and then the other; of ``[n, h, w]``, likewise."""
    side = 2 * radius_px + 1
    columns = functional.avg_pool2d(values, (side, 1), 1, (radius_px, 0), count_include_pad=False)
    return functional.avg_pool2d(columns, (1, side), 1, (0, radius_px), count_include_pad=False)
