"""`ThresholdPredictor`: classes by the darkness of a pixel, for tests and benchmarks only.

The model has no network; it is exact and fast.
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
from noctile.pipeline.models.folder import (
    CONFIG,
    THRESHOLD,
    make_card,
    read_config,
    validate,
    write_card,
    write_config,
)
from noctile.pipeline.models.predictor import check_tiles

OD_STEP = 1e-3
"""Step of optical density. Densities are whole numbers of steps, so every sum is exact."""


class ThresholdConfig(BaseModel):
    """The content of ``config.json`` of a model without a network.

    Attributes:
        kind: mark of a config without a network.
        thresholds_od: optical densities between each class and the next darker one, ascending; one
            fewer than there are classes.
        softness_od: width of the fade from one class to the next (optical density; scale of a
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
    """A model that classifies each pixel by its darkness; the first class is the lightest.

    Class ``k`` lies between the thresholds ``k - 1`` and ``k``. The probabilities of a pixel come
    from a table and depend on that pixel only, so they are the same bits in any tile, batch and
    process. Optical density is ``log10(256 / (value + 1))``, averaged over R, G and B. (Ruifrok and
    Johnston 2001; + 1 makes 0 possible)

    Args:
        card: the model's card.
        config: the thresholds.

    Raises:
        ModelError: if the number of thresholds is not the number of classes minus one.
    """

    def __init__(self, card: ModelCard, config: ThresholdConfig) -> None:
        if len(config.thresholds_od) != len(card.classes) - 1:
            raise ModelError(
                f"model '{card.name}' has {len(card.classes)} classes and "
                f"{len(config.thresholds_od)} thresholds_od; there is one threshold between each "
                "class and the next"
            )
        self._card = card
        steps = np.round(np.log10(256 / np.arange(1, 257)) / OD_STEP)
        self._od_steps = steps.astype(np.uint16)
        mean_od = np.arange(3 * int(steps[0]) + 1) * OD_STEP / 3
        self._table = _probabilities(mean_od, config)

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._card

    @property
    def batch_size(self) -> int:
        """One tile, because larger batches are not faster."""
        return 1

    def __call__(self, tiles: UInt8) -> Float32:
        """Class probabilities as for `Predictor`.

        Raises:
            ValueError: if the tiles do not fit the card.
        """
        check_tiles(tiles, self._card)
        darkness = (
            self._od_steps[tiles[..., 0]]
            + self._od_steps[tiles[..., 1]]
            + self._od_steps[tiles[..., 2]]
        )
        return np.stack([row.take(darkness) for row in self._table], axis=1)


def load_threshold(folder: Path, card: ModelCard) -> ThresholdPredictor:
    """Load the model of a folder.

    Raises:
        ModelError: if the config cannot be used, or does not fit the card.
    """
    config = validate(ThresholdConfig, read_config(folder), folder / CONFIG)
    return ThresholdPredictor(card, config)


def save_threshold(folder: Path, config: ThresholdConfig, fields: Mapping[str, Any]) -> ModelCard:
    """Write a model folder without a network.

    Args:
        folder: the folder to write; it is made if it does not exist.
        config: the thresholds.
        fields: fields of `ModelCard`, all but ``sha256``, which is computed here.

    Raises:
        ModelError: if the fields do not make a card, or the card does not fit the thresholds.
    """
    ThresholdPredictor(make_card(fields, "0" * 64), config)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config.model_dump(mode="json"))
    return write_card(folder, fields)


def _probabilities(od: npt.NDArray[np.float64], config: ThresholdConfig) -> Float32:
    """Probability of each class at each optical density, float32 ``[classes, len(od)]``.

    Each column adds up to 1.
    """
    thresholds = np.asarray(config.thresholds_od)[:, None]
    # the logistic curve, in a form that does not overflow
    darker = 0.5 * (1 + np.tanh((od - thresholds) / (2 * config.softness_od)))
    edges = np.vstack([np.ones_like(od), darker, np.zeros_like(od)])
    table: Float32 = (edges[:-1] - edges[1:]).astype(np.float32)
    return table
