"""The loss weighs classes and leaves out ignored pixels."""

import pytest
import torch

from noctile.pipeline.training.losses import SegmentationLoss
from noctile.pipeline.truth.scheme import IGNORED


class TestLoss:
    def test_ignored_pixels_change_nothing(self):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 3, 8, 8, generator=generator)
        targets = torch.randint(0, 3, (2, 8, 8), generator=generator, dtype=torch.uint8)
        targets[:, :4] = IGNORED
        loss = SegmentationLoss((1, 2, 3), 1.0, 0.0)
        before = loss(logits, targets)
        logits[:, :, :4] = 100 * torch.randn(2, 3, 4, 8, generator=generator)
        assert loss(logits, targets).item() == pytest.approx(before.item(), rel=1e-5)

    def test_weighs_classes_as_cross_entropy_does(self):
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn(1, 3, 8, 8, generator=generator)
        targets = torch.randint(0, 3, (1, 8, 8), generator=generator)
        expected = torch.nn.functional.cross_entropy(logits, targets, torch.tensor([1.0, 2.0, 3.0]))
        found = SegmentationLoss((1, 2, 3), 0.0, 0.0)(logits, targets)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_a_batch_without_classes_has_loss_0(self):
        targets = torch.full((1, 8, 8), IGNORED, dtype=torch.uint8)
        assert SegmentationLoss((1, 1), 1.0, 0.0)(torch.zeros(1, 2, 8, 8), targets) == 0
