"""Difference of each way of stitching from one big window, and its cost.

    python -m benchmarks.windows [--data ../shared/data]

On real BCSS regions at 0.5 um/px, the labels of `segment_block` for each window and overlap are
compared with those of one forward pass over the whole region (and 256 px of white around it). There
are two networks: the tumor model, and a ResNet34 U-Net with 21 classes and seeded random weights.
The second is a harder test, because it was never trained to ignore the edges of a tile.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import tifffile
import torch
from PIL import Image

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.models.folder import find_model, read_card, write_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.network import save_model
from noctile.pipeline.normalize import Amounts, predictor_for_slide, stain_amounts
from noctile.pipeline.plan import Tiling, Window, plan_tiles
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.tissue_mask import TissueMask

REGIONS = ("1008", "1015")
OVERLAPS_PX = (0, 32, 64, 96, 128, 192, 256)
WINDOWS: tuple[Window, ...] = ("crop", "blend")
BLOCK_PX = 4096
AROUND_PX = 256
MIN_TUMOR = 0.01  # share of a region; below it a relative difference of areas says nothing


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        network: name of the model.
        window: way of stitching, "crop" or "blend".
        overlap_px: overlap of the tiles (px).
        differ: share of the pixels whose label differs from the big window's.
        tumor: relative difference of the tumor area.
        predictions: predictions per pixel, relative to no overlap, on a plane of whole blocks.
        seconds: time of the segmentation (s).
    """

    network: str
    window: str
    overlap_px: int
    differ: float
    tumor: float
    predictions: float
    seconds: float


def measure(model: Path, reader: SlideReader, scratch: Path) -> Iterator[Row]:
    """Measure all windows and overlaps of one network on one region."""
    predict = load_predictor(model, "cpu")
    card = predict.card
    frame = reader.info.frame.at(card.mpp)
    stain = stain_amounts([reader.read(frame.box, card.mpp)])
    predict = predictor_for_slide(predict, stain)
    side = max(frame.extent.height, frame.extent.width)
    everywhere = TissueMask(np.ones((1, 1), np.bool_), frame.coarser(side), "", ())
    tumor = [c.code for c in card.classes if c.role == "tumor"]
    whole = _big_window(model, reader, stain, scratch)
    for window, overlap_px in itertools.product(WINDOWS, OVERLAPS_PX):
        if window == "blend" and overlap_px == 0:
            continue
        tiling = Tiling(card.mpp, card.tile_px, overlap_px, window, BLOCK_PX, len(card.classes))
        plan = plan_tiles("r", reader.info.frame, everywhere, tiling)
        start = time.perf_counter()
        labels = np.zeros_like(whole)
        for block in plan.blocks:
            labels[block.box.slices()] = segment_block(
                reader, plan, block, everywhere, predict, 4
            ).labels
        seconds = time.perf_counter() - start
        share = np.isin(whole, tumor).mean()
        area = (
            abs(float(np.isin(labels, tumor).mean() / share) - 1) if share > MIN_TUMOR else np.nan
        )
        times = cost(card.tile_px, overlap_px, window)
        yield Row(
            card.name, window, overlap_px, float((labels != whole).mean()), area, times, seconds
        )


def cost(tile_px: int, overlap_px: int, window: Window) -> float:
    """Predictions per pixel of an endless plane of blocks, relative to tiles without overlap."""
    stride = tile_px - overlap_px
    n = max(1, round(BLOCK_PX / stride))
    shared = 0 if window == "crop" else 2 * int(np.ceil(overlap_px / 2 / stride))
    return ((n + shared) / (n * stride) * tile_px) ** 2


def _big_window(model: Path, reader: SlideReader, stain: Amounts | None, scratch: Path) -> UInt8:
    """Labels of the whole region by one forward pass of the same model with larger tiles."""
    card = read_card(model)
    frame = reader.info.frame.at(card.mpp)
    side = max(frame.extent.height, frame.extent.width) + 2 * AROUND_PX
    side += -side % 32
    large = scratch / f"{card.name}-{side}"
    shutil.copytree(model, large, dirs_exist_ok=True)
    write_card(large, {**card.model_dump(exclude={"sha256"}), "tile_px": side})
    box = Box(-AROUND_PX, -AROUND_PX, side, side)
    p = np.asarray(
        predictor_for_slide(load_predictor(large, "cpu"), stain)(reader.read(box, card.mpp)[None])
    )[0]
    codes = np.asarray([c.code for c in card.classes], np.uint8)
    labels: UInt8 = codes[p[(slice(None), *frame.box.slices(box))].argmax(axis=0)]
    return labels


def _seeded_resnet34(folder: Path) -> Path:
    torch.manual_seed(0)
    model = smp.Unet("resnet34", encoder_weights=None, classes=21)
    classes = tuple(
        ClassInfo(code=k, name=f"c{k}", color=(k, k, k), role="tumor" if k == 1 else "tissue")
        for k in range(1, 22)
    )
    fields = {
        "name": "seeded-resnet34",
        "description": "",
        "classes": classes,
        "mpp": 0.5,
        "licence": "CC0-1.0",
    }
    save_model(folder, model, fields)
    return folder


def _region_slide(image: Path, path: Path) -> SlideReader:
    pixels = np.asarray(Image.open(image).convert("RGB"))
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="zlib")
    return open_slide(path, mpp=0.25)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="tumor")
    args = parser.parse_args()
    rows: dict[tuple[str, str, int], list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in REGIONS:
            reader = _region_slide(
                args.data / "bcss" / "images" / f"{name}.jpg", scratch / f"{name}.tif"
            )
            for model in (find_model(args.model), _seeded_resnet34(scratch / "resnet34")):
                for row in measure(model, reader, scratch):
                    print(name, row, flush=True)
                    rows.setdefault((row.network, row.window, row.overlap_px), []).append(row)
            reader.close()
    print(
        "| network | window | overlap px | labels differ | tumor area differs | predictions | s |"
    )
    print("|---|---|---|---|---|---|---|")
    for (network, window, overlap_px), found in rows.items():
        differ, tumor = (
            float(np.mean([getattr(r, n) for r in found])) for n in ("differ", "tumor")
        )
        seconds = sum(r.seconds for r in found)
        times = found[0].predictions
        print(
            f"| {network} | {window} | {overlap_px} | {differ:.3%} | {tumor:.2%} | {times:.2f} x | "
            f"{seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
