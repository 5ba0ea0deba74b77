"""Validation: loss and Dice of a network on the regions that choose the best epoch."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from noctile.pipeline.arrays import Float64, UInt8
from noctile.pipeline.training.crops import cut_padded
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED


def validation_sums(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    forward: Callable[[torch.Tensor], torch.Tensor],
    loss: torch.nn.Module,
    classes: int,
    device: torch.device,
) -> torch.Tensor:
    """Sums over batches, which can be added up over processes.

    Args:
        batches: pixels uint8 ``[n, h, w, 3]`` and targets uint8 ``[n, h, w]``.
        forward: gives logits ``[n, c, h, w]`` of pixels.
        loss: loss of logits and targets.
        classes: number of classes.
        device: device of the result.

    Returns:
        float64 ``[classes * classes + 2]``: the flattened confusion matrix (rows truth), then the
        sum of the losses and the number of batches.
    """
    sums = torch.zeros(classes * classes + 2, dtype=torch.float64, device=device)
    for rgb, known in batches:
        logits = forward(rgb)
        targets = known.to(device)
        counted = targets != IGNORED
        sums[-2] += loss(logits, targets).double()
        sums[-1] += 1
        pairs = targets[counted].long() * classes + logits.argmax(1)[counted]
        sums[:-2] += torch.bincount(pairs, minlength=classes * classes)
    return sums


def loss_and_dice(sums: torch.Tensor) -> tuple[float, Float64]:
    """Mean loss and Dice of each class from `validation_sums`; NaN where there is none."""
    counts = sums.cpu().numpy()
    classes = math.isqrt(len(counts) - 2)
    confusion = counts[:-2].reshape(classes, classes).astype(np.int64)
    mean_loss = float(counts[-2] / counts[-1]) if counts[-1] else math.nan
    return mean_loss, class_dice(confusion)


def class_dice(confusion: npt.NDArray[np.int64]) -> Float64:
    """Dice of each class; NaN for a class that is not in the truth.

    Args:
        confusion: int64 ``[n, n]`` pixels, rows truth, columns prediction.

    Returns:
        float64 ``[n]``.
    """
    truth = confusion.sum(axis=1)
    both = truth + confusion.sum(axis=0)
    return np.where(truth > 0, 2 * np.diag(confusion) / np.maximum(both, 1), np.nan)


def tile_batches(
    region: LabelledPixels, side_px: int, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of tiles that cover a region without overlap.

    A tile in which no pixel has a class is left out.

    Args:
        region: pixels and classes of the region.
        side_px: side of a tile (px).
        batch_size: largest number of tiles in a batch.

    Yields:
        Pixels uint8 ``[n, side_px, side_px, 3]`` and targets uint8 ``[n, side_px, side_px]``.
    """
    height, width = region.targets.shape
    batch: list[tuple[UInt8, UInt8]] = []
    for y in range(0, height, side_px):
        for x in range(0, width, side_px):
            tile = cut_padded(region, y, x, side_px)
            if (tile[1] != IGNORED).any():
                batch.append(tile)
            if len(batch) == batch_size:
                yield _stack(batch)
                batch = []
    if batch:
        yield _stack(batch)


def _stack(batch: Sequence[tuple[UInt8, UInt8]]) -> tuple[torch.Tensor, torch.Tensor]:
    rgb, targets = zip(*batch, strict=True)
    return torch.from_numpy(np.stack(rgb)), torch.from_numpy(np.stack(targets))
