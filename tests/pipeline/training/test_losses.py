"""The loss weighs classes and leaves out ignored pixels."""

import pytest
import torch

from noctile.pipeline.training.losses import SegmentationLoss
from noctile.pipeline.truth.points import POINT
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


class TestPoints:
    """A point's pixel counts like ``point_weight`` pixels of an area."""

    def marked(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        logits = torch.randn(1, 3, 4, 4, generator=generator)
        targets = torch.randint(0, 3, (1, 4, 4), generator=generator, dtype=torch.uint8)
        targets[0, 0, 0] = IGNORED
        of_points = torch.zeros(1, 4, 4, dtype=torch.bool)
        of_points[0, 1, 1:3] = True
        return logits, targets, of_points

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_it_equals_a_batch_in_which_the_pixel_is_repeated(self, smoothing):
        logits, targets, of_points = self.marked()
        loss = SegmentationLoss((1, 2, 3), 0.0, smoothing, point_weight=5)
        found = loss(logits, torch.where(of_points, targets + POINT, targets))
        pixels, classes = logits.permute(0, 2, 3, 1)[of_points], targets[of_points]
        columns = [logits.flatten(2), *[pixels.T[None]] * 4]
        repeated = torch.cat(columns, dim=2)[..., None]
        known = torch.cat([targets.flatten(1), *[classes[None]] * 4], dim=1)[..., None]
        expected = SegmentationLoss((1, 2, 3), 0.0, smoothing)(repeated, known)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_its_gradient_has_that_weight_beside_an_area(self):
        logits, targets, of_points = self.marked()
        gradients = []
        for weight in (1.0, 10.0):
            wanted = logits.clone().requires_grad_()
            loss = SegmentationLoss((1, 1, 1), 0.0, 0.0, point_weight=weight)
            loss(wanted, torch.where(of_points, targets + POINT, targets)).backward()
            size = wanted.grad.abs().sum(1)
            gradients.append((size[of_points].sum() / size[~of_points].sum()).item())
        assert gradients[1] == pytest.approx(10 * gradients[0], rel=1e-4)

    def test_without_points_nothing_changes(self):
        logits, targets, _ = self.marked()
        losses = {
            SegmentationLoss((1, 2, 3), 1.0, 0.1, point_weight=w)(logits, targets).item()
            for w in (1.0, 50.0)
        }
        assert len(losses) == 1

    def test_dice_takes_the_classes_of_points(self):
        logits, targets, of_points = self.marked()
        loss = SegmentationLoss((1, 1, 1), 1.0, 0.0)
        marked = torch.where(of_points, targets + POINT, targets)
        assert loss(logits, marked).item() == pytest.approx(loss(logits, targets).item(), rel=1e-6)
