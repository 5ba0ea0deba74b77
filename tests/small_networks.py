"""Small networks with their cards, and a plain computation of their output to compare with."""

import numpy as np
import segmentation_models_pytorch as smp
import torch

SIDE = 64


def fields(classes: int = 5, **others):
    kinds = [
        {"code": k + 1, "name": f"c{k}", "color": (k, k, k), "role": "tissue"}
        for k in range(classes)
    ]
    values = {
        "name": "small",
        "description": "",
        "classes": kinds,
        "licence": "CC0-1.0",
        "mpp": 0.5,
    }
    return {**values, "tile_px": SIDE, "overlap_px": 16, **others}


def network(
    architecture: str = "Unet", encoder: str = "mobilenet_v2", classes: int = 5, **settings
):
    """A small network with random statistics of its layers, so that tiles and pixels differ."""
    torch.manual_seed(0)
    if (architecture, encoder) == ("Unet", "mobilenet_v2"):
        settings = {"decoder_channels": (32, 16, 16, 8, 8), **settings}
    net = getattr(smp, architecture)(encoder, encoder_weights=None, classes=classes, **settings)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def tiles_of(n: int = 2, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def plainly(
    net, tiles: np.ndarray, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
) -> np.ndarray:
    """Probabilities of tiles, computed step by step in float64."""
    pixels = (tiles / 255.0 - np.asarray(mean)) / np.asarray(std)
    with torch.no_grad():
        logits = net(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32).copy()))
    e = np.exp(logits.double().numpy())
    return e / e.sum(axis=1, keepdims=True)
