"""Accuracy, precision, recall, F1 and IoU of confusion matrices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from segmentation_models_pytorch import metrics

from noctile.pipeline.arrays import Float64, Int64

Metric = Literal["precision", "recall", "f1", "iou"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)


@dataclass(frozen=True, slots=True, eq=False)
class ClassMetrics:
    """Metrics of one confusion matrix, or of many at once (leading axes).

    A class that is not in the truth has no metrics (NaN) and is in no mean. A class that is in the
    truth and is never predicted has precision 0. For pixels, Dice and F1 are the same number.

    Attributes:
        accuracy: share of the pixels that are right, ``[...]``.
        precision: tp / (tp + fp) of each class, ``[..., n]``.
        recall: tp / (tp + fn) of each class, ``[..., n]``.
        f1: 2 tp / (2 tp + fp + fn) of each class, the harmonic mean of its precision and recall,
            ``[..., n]``.
        iou: tp / (tp + fp + fn) of each class, ``[..., n]``.
        counted: bool ``[n]``, true for the classes that are in the means.
    """

    accuracy: Float64
    precision: Float64
    recall: Float64
    f1: Float64
    iou: Float64
    counted: npt.NDArray[np.bool_]

    @property
    def dice(self) -> Float64:
        """Dice of each class, ``[..., n]``: the same as `f1`."""
        return self.f1

    def values(self, metric: Metric) -> Float64:
        """One of `METRICS` for each class, ``[..., n]``."""
        values: Float64 = getattr(self, metric)
        return values

    def mean(self, metric: Metric) -> Float64:
        """Mean over the counted classes that are in the truth (macro average), ``[...]``.

        NaN if there is no such class. Mean F1 is the mean of the classes' F1 (Opitz and Burst 2019,
        arXiv 1911.03347). It is not the F1 of mean precision and mean recall.
        """
        values = self.values(metric)[..., self.counted]
        number = np.isfinite(values).sum(axis=-1)
        return np.where(number > 0, np.nansum(values, axis=-1) / np.maximum(number, 1), np.nan)


def class_metrics(confusion: Int64, counted: Sequence[bool]) -> ClassMetrics:
    """Compute metrics with `segmentation_models_pytorch.metrics`.

    Its ``accuracy`` is not used: it counts the true negatives of every class, which gives 21
    classes an accuracy that is too high.

    Args:
        confusion: int64 ``[..., n, n]``, rows truth, columns prediction.
        counted: for each class, true if it is in the means.
    """
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    fn, fp = support - tp, confusion.sum(axis=-2) - tp
    total = confusion.sum(axis=(-2, -1))
    tn = total[..., None] - tp - fp - fn
    counts = [torch.from_numpy(values.astype(np.float64)) for values in (tp, fp, fn, tn)]

    def compute(metric: Callable[..., torch.Tensor]) -> Float64:
        values = metric(*counts, reduction="none", zero_division=0.0).numpy()
        return np.where(support > 0, values, np.nan)

    return ClassMetrics(
        accuracy=np.where(total > 0, tp.sum(axis=-1) / np.maximum(total, 1), np.nan),
        precision=compute(metrics.precision),
        recall=compute(metrics.recall),
        f1=compute(metrics.f1_score),
        iou=compute(metrics.iou_score),
        counted=np.asarray(counted, bool),
    )
