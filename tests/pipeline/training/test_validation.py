"""Validation counts every pixel with a class once."""

import math

import numpy as np
import pytest
import torch

from noctile.pipeline.training.validation import (
    class_dice,
    loss_and_dice,
    tile_batches,
    validation_sums,
)
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED


def region(height: int, width: int) -> LabelledPixels:
    """Pixels whose red channel is their class; the first row is ignored."""
    targets = np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.uint8)
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = targets
    targets[0] = IGNORED
    return LabelledPixels(rgb, targets, 0.5)


def test_tiles_cover_a_region_and_a_tile_without_classes_is_left_out() -> None:
    known = region(40, 50)
    known.targets[:32, :32] = IGNORED
    batches = list(tile_batches(known, side_px=32, batch_size=2))
    assert [len(rgb) for rgb, _ in batches] == [2, 1]
    counted = sum(int((targets != IGNORED).sum()) for _, targets in batches)
    assert counted == (known.targets != IGNORED).sum()


def test_a_network_that_is_always_right_has_dice_1() -> None:
    def forward(rgb: torch.Tensor) -> torch.Tensor:
        return torch.stack([1.0 - rgb[..., 0], rgb[..., 0].float()], dim=1)

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.tensor(float(len(targets)))

    batches = tile_batches(region(40, 50), 32, 3)
    sums = validation_sums(batches, forward, loss, 2, torch.device("cpu"))
    mean_loss, dice = loss_and_dice(sums)
    assert mean_loss == pytest.approx((3 + 1) / 2)
    assert dice.tolist() == [1, 1]


def test_without_regions_there_is_no_loss_and_no_dice() -> None:
    mean_loss, dice = loss_and_dice(torch.zeros(2 * 2 + 2))
    assert math.isnan(mean_loss)
    assert np.isnan(dice).all()


def test_dice_against_a_hand_example() -> None:
    assert class_dice(np.array([[6, 2], [1, 3]])).tolist() == pytest.approx([12 / 15, 6 / 9])
