"""Calibration: agreement of a model's confidence with the share of pixels that it gets right."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Float32, Float64, UInt8
from noctile.pipeline.truth.scheme import IGNORED

N_BINS: Final = 15
"""Number of confidence bins in the calibration error. (Guo et al. 2017, arXiv 1706.04599)"""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Confidence and accuracy in bins of confidence.

    Arrays are float64 ``[bins]``. The bins have equal widths from 0 to 1; an empty bin has NaN.

    Attributes:
        pixels: number of pixels in each bin.
        confidence: mean confidence of each bin.
        accuracy: share of right pixels in each bin.
        ece: expected calibration error: mean distance of confidence and accuracy, weighted by
            pixels (Guo et al. 2017).
    """

    pixels: Float64
    confidence: Float64
    accuracy: Float64
    ece: float


def calibration_from_bins(bins: Float64) -> Calibration:
    """Calibration from the counts that `count_bins` gives, float64 ``[bins, 3]``."""
    pixels = bins[:, 0]
    confidence, accuracy = np.where(pixels > 0, bins[:, 1:].T / np.maximum(pixels, 1), np.nan)
    total = pixels.sum()
    ece = float(np.nansum(pixels * np.abs(confidence - accuracy)) / total) if total else np.nan
    return Calibration(pixels, confidence, accuracy, ece)


def count_bins(targets: UInt8, labels: UInt8, confidence: Float32) -> Float64:
    """Count the pixels of an image in bins of confidence.

    Args:
        targets: true class of each pixel, uint8 of any shape; `IGNORED` pixels are not counted.
        labels: predicted class of each pixel, of the same shape.
        confidence: probability of the predicted class, 0 to 1, of the same shape.

    Returns:
        float64 ``[N_BINS, 3]``: number of pixels, sum of their confidence, number of right pixels.
    """
    known = targets != IGNORED
    sure, right = confidence[known].astype(np.float64), labels[known] == targets[known]
    index = np.minimum((sure * N_BINS).astype(np.intp), N_BINS - 1)
    return np.stack(
        [np.bincount(index, weights, N_BINS) for weights in (None, sure, right)], axis=1
    )
