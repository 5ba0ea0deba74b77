"""LazySlide: tissue, tiles and its semantic segmentation, without polygons (README.md says why). In
its environment.
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
"""A threshold that no probability exceeds."""


class Model(SegmentationModel):
    """The convolution as LazySlide takes a model; it counts its tiles."""

    def __init__(self, path: Path) -> None:
        weight, bias = (torch.from_numpy(array) for array in folded(path))
        self.model = torch.nn.Conv1d(3, len(bias), 1)
        self.model.load_state_dict({"weight": weight[..., None], "bias": bias})
        self.tiles = 0

    def get_transform(self) -> Callable[[Any], Any]:
        """Tiles stay as they are, uint8 ``[512, 512, 3]``."""
        return np.ascontiguousarray

    @torch.inference_mode()
    def segment(self, image: torch.Tensor) -> SegmentationOutput:
        """From uint8 ``[n, 512, 512, 3]`` to probabilities ``[n, classes, 512, 512]``.

        Each class lies together in memory, as LazySlide adds them up: faster here than channels
        last.
        """
        self.tiles += len(image)
        pixels = image.permute(0, 3, 1, 2).float().flatten(2)
        weight = self.model.weight[..., 0].expand(len(image), -1, -1)
        logits = torch.baddbmm(self.model.bias[:, None], weight, pixels)
        return SegmentationOutput(
            probability_map=logits.softmax(1).unflatten(2, (TILE_PX, TILE_PX))
        )


def segment(slide: Path, weights: Path, work: Path) -> int:
    """One slide to class probabilities of each piece of tissue; tissue and tiles to a store."""
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
