"""From a network's answer to three bytes a pixel: which class wins, how sure that is, how likely
tumor is.

Most of what a run computes beside its networks happens here, and all of it waits for memory: the
answers of 21 classes are 22 MB a tile. Logits are read once, in strips that stay in a core's cache,
and no probabilities are written. OpenVINO decides with the network
(`noctile.pipeline.models.openvino`). (benchmarks/RESULTS.md)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Float32, UInt8
from noctile.pipeline.models.card import ModelCard, Predictor

_STRIP_BYTES = 2**19
"""Of logits that are looked at together: they, and what is compared, fit the second-level cache of
a core, 1 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelLabels:
    """What is said of each pixel of some tiles, all uint8 ``[n, h, w]`` of one namespace and
    device.

    Attributes:
        label: number of the most probable channel; the first of equals.
        tumor: probability of all tumor classes together x 255, rounded.
        confidence: probability of the winner x 255, rounded; 0 says that the model's answer is not
            a number.
    """

    label: Any
    tumor: Any
    confidence: Any


@runtime_checkable
class LabelPredictor(Protocol):
    """A `Predictor` with a quick way to decisions."""

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """See `predict_labels`."""
        ...


def predict_labels(predict: Predictor, tiles: UInt8, part: slice) -> PixelLabels:
    """What a model decides of a batch of tiles; by its own quick way if it is a `LabelPredictor`.

    Args:
        predict: the model.
        tiles: uint8 ``[n, tile_px, tile_px, 3]``.
        part: rows, and columns, of each tile that are asked for.
    """
    if isinstance(predict, LabelPredictor):
        return predict.predict_labels(tiles, part)
    return labels_from_probabilities(predict(tiles)[:, :, part, part], tumor_channels(predict.card))


def tumor_channels(card: ModelCard) -> list[int]:
    """Channels whose probabilities add up to the tumor's."""
    return [k for k, info in enumerate(card.classes) if info.role == "tumor"]


def labels_from_probabilities(sums: Any, tumor: Sequence[int], totals: Any = None) -> PixelLabels:
    """Decide by probabilities, or sums of weighted probabilities, wherever they are.

    Args:
        sums: float32 ``[n, c, h, w]``.
        tumor: channels that are tumor.
        totals: float32 ``[h, w]``, the weights' sums; None: every weight is 1.
    """
    if is_host(sums):
        sums = np.asarray(sums)  # the same memory; many small steps are quicker in numpy
    xp = array_api_compat.array_namespace(sums)
    winner, best = _winners(xp, sums)
    likely = xp.zeros_like(best)
    for k in tumor:
        likely = likely + sums[:, k]
    if totals is not None:
        safe = xp.where(totals > 0, totals, 1.0)
        best, likely = best / safe, likely / safe
    return PixelLabels(winner, *(_byte(xp, p) for p in (likely, best)))


def _byte(xp: Any, p: Any) -> Any:
    """Probabilities x 255, rounded; 0 for what is not a number."""
    return xp.astype(xp.clip(xp.round(xp.where(xp.isnan(p), 0.0, p) * 255), 0, 255), xp.uint8)


def empty_pixel_labels(n: int, side: int) -> PixelLabels:
    """Room in the machine's memory for what is decided of ``n`` tiles' parts of ``side`` x ``side``
    px.
    """
    return PixelLabels(*(np.empty((n, side, side), np.uint8) for _ in range(3)))


def labels_from_logits(logits: Float32, tumor: Sequence[int], into: PixelLabels, tile: int) -> None:
    """Decide by what a softmax over channels would give. A pixel's answer does not depend on any
    other's.

    Args:
        logits: float32 ``[c, h, w]`` of a part of a tile; c is at most 255.
        tumor: channels that are tumor.
        into: of the batch, made by `empty_pixel_labels`; written to.
        tile: its number in the batch.

    Raises:
        ValueError: if a pixel has no largest logit, because one is not a number.
    """
    channels = len(logits)
    rank = (channels - np.arange(channels)).astype(np.uint8)[:, None]
    winner, likely, confidence = (
        values[tile].reshape(-1) for values in (into.label, into.tumor, into.confidence)
    )
    for pixels, strip in _strips(logits):
        share = (
            strip.copy()
        )  # channels apart: side by side, as those of torch may lie, all is ten times slower
        best = share.max(axis=0)
        largest = (share == best).view(np.uint8)
        largest *= rank  # so that the first of equals is the highest
        np.subtract(channels, largest.max(axis=0), out=winner[pixels], casting="unsafe")
        share -= best
        np.exp(share, out=share)
        one = 1 / share.sum(axis=0)
        np.rint(one * 255, out=confidence[pixels], casting="unsafe")
        np.rint(share[tumor].sum(axis=0) * one * 255, out=likely[pixels], casting="unsafe")
    if winner.max() == channels:
        raise ValueError("the network answers with what is not a number (NaN)")


def _strips(logits: Float32) -> Iterator[tuple[slice, Float32]]:
    """Runs of pixels (of a flat tile) with their logits ``[c, pixels]``; views, if whole rows are
    contiguous.
    """
    channels, height, width = logits.shape
    rows = max(1, _STRIP_BYTES // (logits.itemsize * channels * width))
    for y in range(0, height, rows):
        strip = logits[:, y : y + rows].reshape(channels, -1)
        yield slice(y * width, y * width + strip.shape[1]), strip


def _winners(xp: Any, sums: Any) -> tuple[Any, Any]:
    """Number and value of the largest channel of ``[n, c, ...]``; the first of equals, as argmax.

    On the CPU a running comparison of channels is many times faster than a reduction across them:
    21 channels of 512 x 512 px take 2 ms in numpy, ``torch.argmax`` 38 (benchmarks/RESULTS.md).
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


def is_host(values: Any) -> bool:
    """Whether an array lives in the machine's memory, where numpy can see it."""
    return str(array_api_compat.device(values)) == "cpu"
