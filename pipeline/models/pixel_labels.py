"""From the output of a network to three bytes a pixel: label, confidence, tumor probability.

Most of what a run computes besides its networks happens here, and memory bandwidth limits all of
it: the logits of 21 classes are 22 MB a tile. Logits are read once, in strips that fit into the
cache of a core, and no probabilities are written. With OpenVINO the network itself computes the
labels (`noctile.pipeline.models.openvino`). (benchmarks/history/network.md)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Float32
from noctile.pipeline.models.card import ModelCard

_STRIP_BYTES = 2**19
"""Bytes of logits in a strip. They and the intermediate results fit the second-level cache of a
core (1 MB)."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelLabels:
    """The label of each pixel of some tiles, with the model's probabilities.

    All three arrays are uint8 ``[n, h, w]`` of one array namespace on one device.

    Attributes:
        label: number of the most probable channel; the first one if several are equal.
        tumor: probability of all tumor classes together x 255, rounded.
        confidence: probability of the label x 255, rounded; 0 means that the output of the network
            was not a number.
    """

    label: Any
    tumor: Any
    confidence: Any


def tumor_channels(card: ModelCard) -> list[int]:
    """Channels whose probabilities add up to the probability of tumor."""
    return [k for k, info in enumerate(card.classes) if info.role == "tumor"]


def empty_pixel_labels(n: int, side: int) -> PixelLabels:
    """Uninitialized labels in host memory, for ``n`` tiles of ``side`` x ``side`` px."""
    return PixelLabels(*(np.empty((n, side, side), np.uint8) for _ in range(3)))


def labels_from_probabilities(sums: Any, tumor: Sequence[int], totals: Any = None) -> PixelLabels:
    """Labels from probabilities, or from sums of weighted probabilities, on their device.

    Args:
        sums: float32 ``[n, c, h, w]``.
        tumor: channels of the tumor classes.
        totals: float32 ``[h, w]``, sums of the weights; None: every weight is 1.
    """
    if is_host(sums):
        sums = np.asarray(sums)  # shares the memory; many small steps are faster in numpy
    xp = array_api_compat.array_namespace(sums)
    label, best = _largest_channel(xp, sums)
    tumor_sum = xp.zeros_like(best)
    for k in tumor:
        tumor_sum = tumor_sum + sums[:, k]
    if totals is not None:
        safe = xp.where(totals > 0, totals, 1.0)
        best, tumor_sum = best / safe, tumor_sum / safe
    return PixelLabels(label, *(_to_byte(xp, p) for p in (tumor_sum, best)))


def labels_from_logits(logits: Float32, tumor: Sequence[int], out: PixelLabels, tile: int) -> None:
    """Labels from logits, as a softmax over channels would give them. Each pixel is independent.

    Args:
        logits: float32 ``[c, h, w]`` of a part of a tile; c is at most 255.
        tumor: channels of the tumor classes.
        out: labels of the whole batch, made by `empty_pixel_labels`; written to.
        tile: number of the tile in the batch.

    Raises:
        ValueError: if a pixel has no largest logit, because one is not a number.
    """
    channels = len(logits)
    rank = (channels - np.arange(channels)).astype(np.uint8)[:, None]
    label, tumor_byte, confidence = (
        values[tile].reshape(-1) for values in (out.label, out.tumor, out.confidence)
    )
    for pixels, strip in _strips(logits):
        # the copy moves channels apart: torch may interleave them, which is ten times slower here
        share = strip.copy()
        best = share.max(axis=0)
        largest = (share == best).view(np.uint8)
        largest *= rank  # the first of equal channels has the highest rank
        np.subtract(channels, largest.max(axis=0), out=label[pixels], casting="unsafe")
        share -= best
        np.exp(share, out=share)
        one = 1 / share.sum(axis=0)
        np.rint(one * 255, out=confidence[pixels], casting="unsafe")
        np.rint(share[tumor].sum(axis=0) * one * 255, out=tumor_byte[pixels], casting="unsafe")
    if label.max() == channels:
        raise ValueError("the output of the network is not a number (NaN)")


def is_host(values: Any) -> bool:
    """True if an array is in host memory, where numpy can use it."""
    return str(array_api_compat.device(values)) == "cpu"


def _to_byte(xp: Any, p: Any) -> Any:
    """Probabilities x 255, rounded; 0 for NaN."""
    return xp.astype(xp.clip(xp.round(xp.where(xp.isnan(p), 0.0, p) * 255), 0, 255), xp.uint8)


def _strips(logits: Float32) -> Iterator[tuple[slice, Float32]]:
    """Ranges of pixels of a flattened tile, each with its logits ``[c, pixels]``.

    The logits are views if the rows are contiguous.
    """
    channels, height, width = logits.shape
    rows = max(1, _STRIP_BYTES // (logits.itemsize * channels * width))
    for y in range(0, height, rows):
        strip = logits[:, y : y + rows].reshape(channels, -1)
        yield slice(y * width, y * width + strip.shape[1]), strip


def _largest_channel(xp: Any, sums: Any) -> tuple[Any, Any]:
    """Number and value of the largest channel of ``[n, c, ...]``; the first of equals, as argmax.

    On the CPU a running comparison of channels is many times faster than a reduction across them:
    21 channels of 512 x 512 px take 2 ms in numpy, and 38 ms with ``torch.argmax``.
    (benchmarks/history/network.md)
    """
    if not is_host(sums):
        return xp.astype(xp.argmax(sums, axis=1), xp.uint8), xp.max(sums, axis=1)
    best = np.array(sums[:, 0])
    index = np.zeros(best.shape, np.uint8)
    for k in range(1, sums.shape[1]):
        larger = sums[:, k] > best
        np.maximum(index, larger.view(np.uint8) * np.uint8(k), out=index)
        np.maximum(best, sums[:, k], out=best)
    return index, best
