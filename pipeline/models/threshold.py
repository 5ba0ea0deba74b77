"""A model without a network: classes by how dark a pixel is. Exact and quick, for tests and
benchmarks only.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from noctile.pipeline.arrays import Float32, UInt8
from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.load import (
    CONFIG,
    THRESHOLD,
    card_of,
    check_tiles,
    read_config,
    validated,
    write_card,
    write_config,
)

OD_STEP = 1e-3
"""Optical density is counted in steps of this size, so that every sum is a whole number and exact.
"""


class ThresholdConfig(BaseModel):
    """What ``config.json`` of a model without a network holds.

    Attributes:
        kind: tells it from a network's.
        thresholds_od: optical density between one class and the next darker one, ascending; one
            fewer than classes.
        softness_od: over how much optical density one class fades into the next (scale of a
            logistic curve).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["threshold"] = THRESHOLD
    thresholds_od: tuple[Annotated[float, Field(gt=0, lt=math.log10(256))], ...]
    softness_od: Annotated[float, Field(ge=OD_STEP, le=1)] = 0.05

    @model_validator(mode="after")
    def _ascending(self) -> "ThresholdConfig":
        if any(a >= b for a, b in zip(self.thresholds_od, self.thresholds_od[1:], strict=False)):
            raise ValueError(f"thresholds_od must ascend: {self.thresholds_od}")
        return self


class ThresholdPredictor:
    """Class ``k`` is what lies between thresholds ``k - 1`` and ``k``: the first class is the
    lightest.

    A pixel's probabilities come from a table by that pixel alone: the same bits in any tile, batch
    and process. Optical density is ``log10(256 / (value + 1))``, averaged over R, G and B. (Ruifrok
    & Johnston 2001, with + 1 for 0)

    Args:
        card: of the model.
        config: its thresholds.

    Raises:
        ModelError: if there is not one threshold fewer than classes.
    """

    def __init__(self, card: ModelCard, config: ThresholdConfig) -> None:
        if len(config.thresholds_od) != len(card.classes) - 1:
            raise ModelError(
                f"model '{card.name}' has {len(card.classes)} classes and {len(config.thresholds_od)} thresholds_od; "
                "there is one threshold between each class and the next"
            )
        self._card = card
        steps = np.round(np.log10(256 / np.arange(1, 257)) / OD_STEP)
        self._od_steps = steps.astype(np.uint16)
        mean_od = np.arange(3 * int(steps[0]) + 1) * OD_STEP / 3
        self._table = _probabilities(mean_od, config)

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._card

    @property
    def batch_size(self) -> int:
        """One: nothing is won by more."""
        return 1

    def __call__(self, tiles: UInt8) -> Float32:
        """See `Predictor`.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        check_tiles(tiles, self._card)
        darkness = (
            self._od_steps[tiles[..., 0]]
            + self._od_steps[tiles[..., 1]]
            + self._od_steps[tiles[..., 2]]
        )
        return np.stack([row.take(darkness) for row in self._table], axis=1)


def load_threshold(folder: Path, card: ModelCard) -> ThresholdPredictor:
    """The model of a folder.

    Raises:
        ModelError: if the config cannot be used, or does not fit the card.
    """
    return ThresholdPredictor(
        card, validated(ThresholdConfig, read_config(folder), folder / CONFIG)
    )


def save_threshold(folder: Path, config: ThresholdConfig, fields: Mapping[str, Any]) -> ModelCard:
    """Write a model folder.

    Args:
        folder: made where it is missing.
        config: the thresholds.
        fields: of `ModelCard`, all but ``sha256``.

    Raises:
        ModelError: if the fields do not make a card, or it does not fit the thresholds.
    """
    ThresholdPredictor(card_of(fields, "0" * 64), config)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config.model_dump(mode="json"))
    return write_card(folder, fields)


def _probabilities(od: npt.NDArray[np.float64], config: ThresholdConfig) -> Float32:
    """Probability of each class at each optical density, float32 ``[classes, len(od)]``; columns
    sum to 1.
    """
    thresholds = np.asarray(config.thresholds_od)[:, None]
    darker = 0.5 * (
        1 + np.tanh((od - thresholds) / (2 * config.softness_od))
    )  # the logistic curve, without overflow
    edges = np.vstack([np.ones_like(od), darker, np.zeros_like(od)])
    table: Float32 = (edges[:-1] - edges[1:]).astype(np.float32)
    return table
