"""The interface of a loaded model: `Predictor`, and its faster form `LabelPredictor`."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.pixel_labels import (
    PixelLabels,
    labels_from_probabilities,
    tumor_channels,
)


class Predictor(Protocol):
    """A model that is loaded in this process, on its device, and predicts batches of tiles."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        ...

    @property
    def batch_size(self) -> int:
        """The number of tiles in a batch that suits this predictor."""
        ...

    def __call__(self, tiles: UInt8) -> Any:
        """Class probabilities of a batch of tiles.

        Args:
            tiles: uint8 ``[n, tile_px, tile_px, 3]``, RGB at ``card.mpp``.

        Returns:
            float32 ``[n, len(card.classes), tile_px, tile_px]``; the probabilities of a pixel add
            up to 1. A numpy array or a torch tensor on the predictor's device (any array that
            `array_api_compat.array_namespace` takes).
        """
        ...


@runtime_checkable
class LabelPredictor(Protocol):
    """A `Predictor` that computes labels faster than by way of probabilities."""

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """Labels of a batch of tiles, as for the function `predict_labels`."""
        ...


def predict_labels(predict: Predictor, tiles: UInt8, part: slice) -> PixelLabels:
    """Labels of a batch of tiles, by the model's own fast method if it is a `LabelPredictor`.

    Args:
        predict: the model.
        tiles: uint8 ``[n, tile_px, tile_px, 3]``.
        part: range of rows of each tile to label; the same range is taken of its columns.
    """
    if isinstance(predict, LabelPredictor):
        return predict.predict_labels(tiles, part)
    return labels_from_probabilities(predict(tiles)[:, :, part, part], tumor_channels(predict.card))


def check_tiles(tiles: UInt8, card: ModelCard) -> None:
    """Check a batch of tiles before prediction.

    Raises:
        ValueError: if ``tiles`` is not uint8 ``[n >= 1, tile_px, tile_px, 3]``.
    """
    side = card.tile_px
    if (
        tiles.dtype != np.uint8
        or tiles.ndim != 4
        or tiles.shape[0] == 0
        or tiles.shape[1:] != (side, side, 3)
    ):
        raise ValueError(
            f"model '{card.name}' takes uint8 [n, {side}, {side}, 3] with n >= 1, "
            f"not {tiles.dtype} {list(tiles.shape)}"
        )
