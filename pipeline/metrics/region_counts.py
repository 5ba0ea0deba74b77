"""Prediction of one region, and its pixel counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Float32, Float64, Int64, UInt8
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.metrics.calibration import N_BINS, count_bins
from noctile.pipeline.metrics.confusion import count_confusion
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.truth.region import NEAR_WHITE, LabelledPixels, Region

BLOCK_PX: Final = 512
"""Side of a block (px at the model's pixel size); blocks are drawn instead of patients if there are
too few of these."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionCounts:
    """Pixel counts of one region.

    Attributes:
        region: the region.
        confusion: int64 ``[n, n]`` pixels, rows truth, columns prediction.
        bins: float64 ``[N_BINS, 3]``, counts of each bin of confidence, see `count_bins`.
        blocks: confusion matrix of each block of `BLOCK_PX`, int64 ``[blocks, n, n]``; empty once
            it is no longer needed.
        stain: mean R, G and B of all pixels that are not near white.
    """

    region: Region
    confusion: Int64
    bins: Float64
    blocks: Int64
    stain: tuple[int, int, int]


def count_region(
    region: Region,
    pixels: LabelledPixels,
    predict: Predictor,
    groups: Sequence[int],
    n: int,
    batch_size: int,
) -> tuple[RegionCounts, UInt8]:
    """Predict a region as a run does (window ``crop``, white outside, no tissue mask) and count.

    Memory holds the region and one batch of tiles.

    Args:
        region: the region.
        pixels: pixels and classes of the region, at the model's pixel size.
        predict: the model.
        groups: class of the truth for each class of the model; ``range(n)`` where these are the
            same.
        n: number of classes of the truth.
        batch_size: number of tiles in a forward pass.

    Returns:
        The counts, and the predicted classes, uint8 ``[h, w]``.
    """
    targets = pixels.targets
    labels, bins = np.zeros_like(targets), np.zeros((N_BINS, 3))
    grid = TileGrid(predict.card.tile_px, predict.card.overlap_px, Extent(*targets.shape))
    frame = Box.of(grid.extent)
    for core, found, confidence in _predict_cores(pixels.rgb, grid, predict, groups, batch_size):
        part = core.intersect(frame)
        inside = part.slices(core)
        labels[part.slices()] = found[inside]
        bins += count_bins(targets[part.slices()], found[inside], confidence[inside])
    confusions = np.stack(
        [count_confusion(targets[box.slices()], labels[box.slices()], n) for box in _blocks(frame)]
    )
    counts = RegionCounts(
        region, confusions.sum(axis=0), bins, confusions, _mean_colour(pixels.rgb)
    )
    return counts, labels


def classes_and_confidence(probabilities: Any, groups: Sequence[int]) -> tuple[UInt8, Float32]:
    """Predicted class of each pixel and its probability, computed on the probabilities' device.

    The model's most probable class is predicted, the first of equals, as in a run. It then counts
    as its group, with the probability of the whole group.

    Args:
        probabilities: float ``[tiles, channels, h, w]``, numpy or torch.
        groups: group of each channel.

    Returns:
        Groups, uint8 ``[tiles, h, w]``, and probabilities, float32 of the same shape; both numpy
        arrays.
    """
    xp = array_api_compat.array_namespace(probabilities)
    codes = xp.asarray(np.asarray(groups, np.uint8), device=array_api_compat.device(probabilities))
    best = probabilities[:, 0]
    labels = xp.zeros_like(best, dtype=xp.uint8) + codes[0]
    for k in range(1, len(groups)):  # many times faster than argmax across channels
        labels = xp.where(probabilities[:, k] > best, codes[k], labels)
        best = xp.maximum(best, probabilities[:, k])
    if len(set(groups)) < len(groups):
        sums = [xp.zeros_like(best) for _ in range(max(groups) + 1)]
        for k, group in enumerate(groups):
            sums[group] = sums[group] + probabilities[:, k]
        for group, probability in enumerate(sums):
            best = xp.where(labels == group, probability, best)
    on_cpu = (array_api_compat.to_device(values, "cpu") for values in (labels, best))
    numpy_labels, confidence = map(np.asarray, on_cpu)
    return numpy_labels, confidence


def _predict_cores(
    rgb: UInt8, grid: TileGrid, predict: Predictor, groups: Sequence[int], batch_size: int
) -> Iterator[tuple[Box, UInt8, Float32]]:
    """Core of each tile with its predicted classes and their confidence."""
    positions = iter(np.ndindex(grid.shape))
    inner = slice(grid.margin_px, grid.margin_px + grid.stride_px)
    while batch := list(islice(positions, batch_size)):
        probabilities = predict(np.stack([_cut(rgb, grid.tile(*position)) for position in batch]))
        found = classes_and_confidence(probabilities[:, :, inner, inner], groups)
        for position, labels, confidence in zip(batch, *found, strict=True):
            yield grid.core(*position), labels, confidence


def _cut(rgb: UInt8, box: Box) -> UInt8:
    """The pixels of a box; white where the box reaches outside."""
    tile = np.full((box.height, box.width, 3), 255, np.uint8)
    inside = box.intersect(Box.of(Extent(*rgb.shape[:2])))
    tile[inside.slices(box)] = rgb[inside.slices()]
    return tile


def _blocks(frame: Box) -> Iterator[Box]:
    """Blocks of `BLOCK_PX` that cover a region."""
    for y in range(0, frame.height, BLOCK_PX):
        for x in range(0, frame.width, BLOCK_PX):
            yield Box(y, x, BLOCK_PX, BLOCK_PX).intersect(frame)


def _mean_colour(rgb: UInt8) -> tuple[int, int, int]:
    """Mean colour of the pixels that are not near white, from every fourth row and column.

    A region that is near white everywhere has the mean colour of all its pixels.
    """
    sample = rgb[::4, ::4].reshape(-1, 3)
    tissue = sample[sample.min(axis=1) < NEAR_WHITE]
    mean = tissue.mean(axis=0) if len(tissue) else sample.mean(axis=0)
    r, g, b = np.rint(mean).astype(int).tolist()
    return r, g, b
