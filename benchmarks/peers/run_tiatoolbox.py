"""TIAToolbox: `SemanticSegmentor` on a whole slide, by its own tissue mask, to a zarr. In its
environment.
"""

from pathlib import Path

import numpy as np
import torch
from pointwise import BATCH, MPP, TILE_PX, folded, main
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC


class Model(ModelABC):
    """The convolution as TIAToolbox takes a model; it counts its tiles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        weight, bias = (torch.from_numpy(array) for array in folded(path))
        self.conv = torch.nn.Conv2d(3, len(bias), 1)
        self.conv.load_state_dict({"weight": weight[..., None, None], "bias": bias})
        self.tiles = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits: whoever takes the largest needs no softmax."""
        return self.conv(x)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """From uint8 ``[n, 512, 512, 3]`` to float32 ``[n, 512, 512, classes]``; channels last
        throughout.
        """
        model.tiles += len(batch_data)
        with torch.inference_mode():
            logits = model(batch_data.to(device=device, dtype=torch.float32).permute(0, 3, 1, 2))
        return logits.permute(0, 2, 3, 1).numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        """Class of the largest logit."""
        return image.argmax(axis=-1)


def segment(slide: Path, weights: Path, work: Path) -> int:
    """One slide to a zarr with the array ``predictions``, class ids from 0."""
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
