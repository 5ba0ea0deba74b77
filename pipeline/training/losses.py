"""Loss of a training: cross-entropy, weighted by class, plus Dice."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from noctile.pipeline.truth.points import POINT
from noctile.pipeline.truth.scheme import IGNORED


class SegmentationLoss(torch.nn.Module):
    """Weighted cross-entropy plus soft Dice over the classes that occur in the batch.

    Cross-entropy rates each pixel. Dice rates areas, independently of their share of the image.
    (Milletari et al. 2016, arXiv 1606.04797; their sum: Isensee et al. 2021, doi
    10.1038/s41592-020-01008-z) Ignored pixels are in neither.

    Args:
        weights: weight of each class in the cross-entropy.
        dice: weight of the Dice loss relative to the cross-entropy.
        smoothing: share of each target that is spread over all classes, because hand-drawn labels
            are not exact. (Szegedy et al. 2016)
        point_weight: weight of a pixel of a point in the cross-entropy, relative to others. Dice
            rates areas, so a point's pixels have no more weight in it than others.
    """

    def __init__(
        self, weights: Sequence[float], dice: float, smoothing: float, point_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.register_buffer("_weights", torch.tensor(weights, dtype=torch.float32))
        self._dice_weight, self._smoothing = dice, smoothing
        self._point_weight = point_weight
        self._dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            logits: float ``[n, c, h, w]``.
            targets: index of each pixel's class or `IGNORED`, uint8 or int64 ``[n, h, w]``; in the
                pixels of points `POINT` is added to it.

        Returns:
            A scalar.
        """
        logits, targets = logits.float(), targets.long()
        weights: torch.Tensor = self._weights  # type: ignore[assignment]
        marked = (targets >= len(weights)) & (targets != IGNORED)
        targets = torch.where(marked, targets - POINT, targets)
        total, counted = self._cross_entropy(logits, targets)
        if marked.any():
            of_points = torch.where(marked, targets, IGNORED)
            more, count = self._cross_entropy(logits, of_points)
            total = total + (self._point_weight - 1) * more
            counted = counted + (self._point_weight - 1) * count
        loss = total / counted.clamp_min(1e-6)
        if self._dice_weight:
            loss = loss + self._dice_weight * self._dice(logits, targets)
        return loss

    def _cross_entropy(
        self, logits: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of the weighted cross-entropy and of the weights; 0 if no pixel has a class."""
        weights: torch.Tensor = self._weights  # type: ignore[assignment]
        total = functional.cross_entropy(
            logits,
            targets,
            weights,
            ignore_index=IGNORED,
            label_smoothing=self._smoothing,
            reduction="sum",
        )
        return total, weights[targets[targets != IGNORED]].sum()
