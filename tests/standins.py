"""Stand-ins that are exact: a slide that is an array, a network whose answer depends on where in its tile a pixel lies."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Box, Extent, Frame
from pipeline.models.card import ClassInfo, ModelCard
from pipeline.slides.base import SlideInfo
from pipeline.tissue import TissueMask


def card(tile_px: int = 64, overlap_px: int = 16, classes: int = 3) -> ModelCard:
    return ModelCard(
        name="standin",
        description="",
        classes=tuple(
            ClassInfo(code=2 * k + 1, name=f"c{k}", color=(k, k, k), role="tumor" if k == 0 else "tissue")
            for k in range(classes)
        ),
        mpp=1.0,
        tile_px=tile_px,
        overlap_px=overlap_px,
        sha256="0" * 64,
        licence="CC0-1.0",
    )


class ArraySlide:
    """A slide of one level that is an array; white outside."""

    def __init__(self, pixels: np.ndarray, mpp: float = 1.0) -> None:
        self._pixels = pixels
        frame = Frame(Extent(*pixels.shape[:2]), mpp, mpp)
        self.info = SlideInfo(
            "array", Path("array"), "0", frame, (frame,), "array", "array", "user", "none", None, frame.box
        )
        self.reads: list[Box] = []

    def read(self, box: Box, mpp: float) -> np.ndarray:
        assert self.info.frame.at(mpp) == self.info.frame
        self.reads.append(box)
        out = np.full((box.height, box.width, 3), 255, np.uint8)
        inside = box.intersect(self.info.frame.box)
        out[inside.slices(box)] = self._pixels[inside.slices()]
        return out

    def close(self) -> None:
        pass


class PositionNet:
    """Probabilities that differ from tile to tile for the same pixel, as a real network's do near a tile's edge."""

    def __init__(self, model: ModelCard, namespace: Any = np) -> None:
        self.card, self._xp = model, namespace
        ramp = np.linspace(0, 1, model.tile_px, dtype=np.float32)
        self._position = ramp[:, None] * 0.7 + ramp[None, :] * 0.3
        self.batches: list[int] = []

    def __call__(self, tiles: np.ndarray) -> Any:
        self.batches.append(len(tiles))
        x = tiles.astype(np.float32) / 255
        logits = [x[..., k % 3] * (k + 1) + self._position * (0.5 - k) for k in range(len(self.card.classes))]
        e = np.exp(np.stack(logits, axis=1))
        return self._xp.asarray(e / e.sum(axis=1, keepdims=True))


class ConstantNet:
    """The same probabilities everywhere."""

    def __init__(self, model: ModelCard, values: list[float], namespace: Any = np) -> None:
        self.card, self._values, self._xp = model, np.asarray(values, np.float32), namespace

    def __call__(self, tiles: np.ndarray) -> Any:
        n, height, width, _ = tiles.shape
        return self._xp.asarray(np.broadcast_to(self._values[:, None, None], (n, len(self._values), height, width)).copy())


def tissue_of(mask: np.ndarray, mpp: float = 8.0) -> TissueMask:
    return TissueMask(mask, Frame(Extent(*mask.shape), mpp, mpp), "test", ())
