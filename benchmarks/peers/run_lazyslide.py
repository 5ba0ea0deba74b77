"""Runner of LazySlide: tissue, tiles and semantic segmentation, without polygons.

It runs in the environment of LazySlide. The README explains why polygons are left out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lazyslide as zs
import numpy as np
import torch
from lazyslide.segmentation import SemanticSegmentationRunner
from lazyslide_models.base import SegmentationModel, SegmentationOutput
from pointwise import BATCH, MPP, TILE_PX, folded, main
from wsidata import open_wsi

NO_POLYGONS = 1.0
"""Threshold that no probability exceeds."""


class Model(SegmentationModel):
    """Convolution with the interface of a LazySlide model; it counts its tiles."""

    def __init__(self, path: Path) -> None:
        weight, bias = (torch.from_numpy(array) for array in folded(path))
        self.model = torch.nn.Conv1d(3, len(bias), 1)
        self.model.load_state_dict({"weight": weight[..., None], "bias": bias})
        self.tiles = 0

    def get_transform(self) -> Callable[[Any], Any]:
        """Return a transform that keeps tiles as they are, uint8 ``[512, 512, 3]``."""
        return np.ascontiguousarray

    @torch.inference_mode()
    def segment(self, image: torch.Tensor) -> SegmentationOutput:
        """Predict probabilities ``[n, classes, 512, 512]`` of tiles, uint8 ``[n, 512, 512, 3]``.

        The pixels of a class are contiguous in memory, as LazySlide adds them up: this is faster
        here than channels last.
        """
        self.tiles += len(image)
        pixels = image.permute(0, 3, 1, 2).float().flatten(2)
        weight = self.model.weight[..., 0].expand(len(image), -1, -1)
        logits = torch.baddbmm(self.model.bias[:, None], weight, pixels)
        return SegmentationOutput(
            probability_map=logits.softmax(1).unflatten(2, (TILE_PX, TILE_PX))
        )


def segment(slide: Path, weights: Path, work: Path) -> int:
    """Segment a slide; probabilities stay in memory, tissue and tiles go to a store."""
    model = Model(weights)
    wsi = open_wsi(slide, store=str(work / "lazyslide.zarr"))
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, TILE_PX, mpp=MPP)
    SemanticSegmentationRunner(
        wsi,
        model,
        threshold=NO_POLYGONS,
        ignore_index=None,
        batch_size=BATCH,
        device="cpu",
        pbar=False,
    ).run()
    wsi.write()
    return model.tiles


if __name__ == "__main__":
    main("lazyslide", segment)
