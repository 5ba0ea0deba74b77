"""Runner of TIAToolbox: `SemanticSegmentor` on a whole slide, with its own tissue mask, to a zarr.

It runs in the environment of TIAToolbox.
"""

from pathlib import Path

import numpy as np
import torch
from pointwise import BATCH, MPP, TILE_PX, folded, main
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC


class Model(ModelABC):
    """Convolution with the interface of a TIAToolbox model; it counts its tiles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        weight, bias = (torch.from_numpy(array) for array in folded(path))
        self.conv = torch.nn.Conv2d(3, len(bias), 1)
        self.conv.load_state_dict({"weight": weight[..., None, None], "bias": bias})
        self.tiles = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict logits; the largest is chosen later, which needs no softmax."""
        return self.conv(x)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Predict logits ``[n, 512, 512, classes]`` of tiles, uint8 ``[n, 512, 512, 3]``."""
        model.tiles += len(batch_data)
        with torch.inference_mode():
            logits = model(batch_data.to(device=device, dtype=torch.float32).permute(0, 3, 1, 2))
        return logits.permute(0, 2, 3, 1).numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        """Return the class with the largest logit."""
        return image.argmax(axis=-1)


def segment(slide: Path, weights: Path, work: Path) -> int:
    """Segment a slide; class ids from 0 go to a zarr with the array ``predictions``."""
    model = Model(weights)
    scale, shape = [{"units": "mpp", "resolution": MPP}], (TILE_PX, TILE_PX)
    config = IOSegmentorConfig(
        input_resolutions=scale,
        output_resolutions=scale,
        patch_input_shape=shape,
        patch_output_shape=shape,
        stride_shape=shape,
    )
    SemanticSegmentor(model, batch_size=BATCH, device="cpu", verbose=False).run(
        [slide],
        patch_mode=False,
        auto_get_mask=True,
        ioconfig=config,
        save_dir=work / "tiatoolbox",
        output_type="zarr",
    )
    return model.tiles


if __name__ == "__main__":
    main("tiatoolbox", segment)
