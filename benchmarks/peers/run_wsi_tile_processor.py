"""Runner of wsi-tile-processor: `FastWSIProcessor` with its own tissue mask, to an OME-TIFF.

It runs in the environment of wsi-tile-processor.
"""

from pathlib import Path

import numpy as np
import torch
from pointwise import BATCH, TILE_PX, folded, main
from wsi_tile_processor import FastWSIProcessor


class Model:
    """Convolution with the interface of a wsi-tile-processor model; it counts its tiles."""

    def __init__(self, path: Path) -> None:
        weight, bias = (torch.from_numpy(array) for array in folded(path))
        self.conv = torch.nn.Conv2d(3, len(bias), 1)
        self.conv.load_state_dict({"weight": weight[..., None, None], "bias": bias})
        self.tiles = 0

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Predict class ids from 1, uint8 ``[n, 512, 512]``, of tiles, uint8 ``[n, 512, 512, 3]``.

        Channels are last in memory, which is fastest here.
        """
        self.tiles += len(batch)
        logits = self.conv(torch.from_numpy(batch).permute(0, 3, 1, 2).float())
        return logits.argmax(1).to(torch.uint8).numpy() + 1


def segment(slide: Path, weights: Path, work: Path) -> int:
    """Segment a slide; class ids go to a pyramid, 0 where there is no tissue."""
    model = Model(weights)
    FastWSIProcessor(
        wsi_path=slide,
        tiff_path=work / "classes.ome.tiff",
        level=0,
        tile_size=TILE_PX,
        generate=model,
        output_channels=1,
        background_value=0,
        use_tissue_mask=True,
        batch_size=BATCH,
        tmp_dir=work,
    ).process()
    return model.tiles


if __name__ == "__main__":
    main("wsi-tile-processor", segment)
