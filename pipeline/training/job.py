"""Training job: all values that one training needs, and its result."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import segmentation_models_pytorch as smp

from noctile.pipeline.training.crops import RegionCache
from noctile.pipeline.training.settings import TrainSettings

HistoryRow = dict[str, float]
"""Figures of one epoch: epoch, step, seconds, lr, train_loss, val_loss, val_dice_mean and
val_dice_<class>; NaN where nothing was measured."""

Say = Callable[[str], None]
"""Function that takes one line of progress."""


@dataclass(frozen=True, slots=True)
class FitJob:
    """All values that the training loop needs; picklable, so that each process gets a copy.

    Attributes:
        settings: settings of the training.
        names: names of the classes, in the order of the model's channels.
        counted: for each class, true if it is in the mean Dice (classes with the role "ignore" are
            not).
        weights: weight of each class in the loss.
        train: cached regions from which crops are cut.
        shares: relative frequency with which each training region is cut.
        val: cached regions that choose the best epoch; may be empty.
        folder: folder of the checkpoint and of history.csv.
        key: hash of settings and data; a checkpoint with another key is not resumed.
        device: name of the device in torch; "cuda" with several processes: one GPU for each.
        processes: number of processes that train together.
        workers: number of processes that cut crops for each training process; 0: the training
            process cuts them itself.
    """

    settings: TrainSettings
    names: tuple[str, ...]
    counted: tuple[bool, ...]
    weights: tuple[float, ...]
    train: RegionCache
    shares: tuple[float, ...]
    val: RegionCache
    folder: Path
    key: str
    device: str
    processes: int
    workers: int

    @property
    def steps(self) -> int:
        """Number of optimizer steps in an epoch."""
        settings = self.settings
        if settings.steps_per_epoch:
            return settings.steps_per_epoch
        area = sum(height * width for height, width in self.train.shapes)
        return max(
            1, math.ceil(area / (settings.crop_px**2 * settings.batch_size * settings.accumulate))
        )

    @property
    def on_gpu(self) -> bool:
        """True if the training runs on GPUs."""
        return self.device.startswith("cuda")


@dataclass(frozen=True, slots=True, eq=False)
class FitResult:
    """Result of a training.

    Attributes:
        network: network with the weights of the best epoch, on the CPU.
        history: one row for each epoch.
        best_epoch: number of the best epoch, from 1.
        start: origin of the encoder's first weights, in words.
    """

    network: smp.base.SegmentationModel
    history: list[HistoryRow]
    best_epoch: int
    start: str
