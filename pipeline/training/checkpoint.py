"""Checkpoint of a training: its progress after each epoch, written whole or not at all."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from noctile.pipeline.errors import UsageError
from noctile.pipeline.training.encoder import UNREADABLE
from noctile.pipeline.training.job import HistoryRow

CHECKPOINT = "checkpoint.pt"
"""Name of the checkpoint in the model's folder while the training goes on."""


@dataclass(slots=True)
class Progress:
    """Progress of a training.

    Attributes:
        start: origin of the encoder's first weights, in words.
        epoch: number of finished epochs.
        step: number of finished optimizer steps.
        seconds: time of all finished epochs (s).
        best_epoch: number of the best epoch so far, from 1; 0 before the first.
        best: weights of the best epoch.
        history: one row for each finished epoch.
    """

    start: str
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """The progress that a checkpoint holds."""
        return cls(**{each.name: state[each.name] for each in fields(cls)})

    def is_better(self, mean_dice: float) -> bool:
        """True if an epoch with this mean Dice replaces the best one so far.

        Without a validation side (NaN) the last epoch is always the best.
        """
        return (
            math.isnan(mean_dice)
            or not self.best_epoch
            or mean_dice > self.history[self.best_epoch - 1]["val_dice_mean"]
        )


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint under another name and rename it, so that a kill leaves a whole one."""
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    part.replace(path)


def read_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: path of the checkpoint.
        key: hash of the settings and data of the training that goes on from it.

    Raises:
        UsageError: if the file cannot be read, or belongs to another training.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UsageError(
            f"checkpoint {path} cannot be read: {error}. Delete it to start again"
        ) from error
    if state["key"] != key:
        raise UsageError(
            f"{path} belongs to a training with other settings or other data. Resume with the "
            "same ones, or choose another folder"
        )
    return state


def write_history(path: Path, history: Sequence[HistoryRow]) -> None:
    """Write the history as CSV, one row for each epoch; a cell without a figure is empty."""
    rows = [{k: f"{v:.6g}" if math.isfinite(v) else "" for k, v in row.items()} for row in history]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
