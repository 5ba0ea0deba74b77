"""Time of each step of a tile, for a model that costs next to nothing.

    python -m benchmarks.segment [--overlap 0 128] [--blocks 12] [--backend torch]

The slide has 24,000 x 20,000 px and the model 21 classes; tiles are taken one after the other. The
table gives milliseconds of CPU a tile for each step of `noctile.pipeline.segment.segment_block` and
for writing the block. *predict* is the network, the predicted class, its probability and that of
the tumor. For comparison, a plain loop over the same tiles in the same run: read, predict,
``argmax``, store in an array in memory.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.common import machine, slide, trivial_model
from noctile.pipeline.arrays import UInt8
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.pipeline.plan import Block, TilePlan, Tiling, plan_tiles
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.stitch.canvas import CropCanvas, labelled_part
from noctile.pipeline.tissue import TissueSpec, find_tissue


class Clock:
    """Seconds of CPU of all threads, by name of a step.

    Other programs disturb them less than the seconds of a clock.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the CPU time of the body to a step."""
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--overlap", type=int, nargs="*", default=[0, 128])
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--backend", default="auto", help="see noctile run")
    a = parser.parse_args()
    path = slide()
    print(f"{machine()}\n")
    print("| overlap px | tiles | read | predict | stitch | write | Noctile | plain loop |")
    print("|" + "---|" * 8)
    for overlap in a.overlap:
        with tempfile.TemporaryDirectory() as scratch:
            model = trivial_model(Path(scratch) / "model", overlap_px=overlap)
            print(_row(path, model, a.blocks, Path(scratch), a.backend))


def _row(path: Path, model: Path, n_blocks: int, scratch: Path, backend: str) -> str:
    predict = load_predictor(model, "cpu", threads=1, backend=backend)
    card = predict.card
    reader = open_slide(path)
    thumbnail, frame = read_thumbnail(reader, TissueSpec().mpp)
    tissue = find_tissue(thumbnail, frame, TissueSpec())
    tiling = Tiling(card.mpp, card.tile_px, card.overlap_px, "crop", 4096, len(card.classes))
    plan = plan_tiles("slide", reader.info.frame, tissue, tiling)
    about = {
        "slide": {"mpp": [0.5, 0.5], "bounds_px": [0, 0, frame.extent.height, frame.extent.width]}
    }
    layout = MaskLayout(plan.frame, plan.block_px, plan.chunk_px, card.classes)
    store = MaskStore.create(scratch / "mask.ome.zarr", layout, thumbnail, frame, about)
    clock, n = Clock(), 0
    codes = [c.code for c in card.classes]
    for block in plan.blocks[:n_blocks]:
        with clock("stitch"):
            canvas = CropCanvas(block.box, plan.grid, codes, tissue.on(block.box, plan.frame))
        tiles = read_tiles(reader, plan, block.tiles)
        for _ in block.tiles:
            with clock("read"):
                position, pixels = next(tiles)
            with clock("predict"):
                labels = predict_labels(predict, np.stack([pixels]), labelled_part(plan.grid))
            with clock("stitch"):
                canvas.add_labels([position], labels)
            n += 1
        with clock("stitch"):
            mask = canvas.finish()
        with clock("write"):
            store.write(mask.box, mask.labels, mask.heat, mask.confidence)
    plain = Clock()
    for block in plan.blocks[:n_blocks]:
        with plain("all"):
            out = np.zeros((block.box.height, block.box.width), np.uint8)
            _plain(reader, plan, block, predict, out)
    reader.close()
    ms = {name: 1000 * seconds / n for name, seconds in clock.seconds.items()}
    steps = " | ".join(f"{ms[name]:.1f} ms" for name in ("read", "predict", "stitch", "write"))
    total, plain_total = sum(ms.values()), 1000 * plain.seconds["all"] / n
    return f"| {card.overlap_px} | {n} | {steps} | {total:.1f} ms | {plain_total:.1f} ms |"


def _plain(
    reader: SlideReader, plan: TilePlan, block: Block, predict: Predictor, out: UInt8
) -> None:
    margin, side = plan.grid.margin_px, plan.grid.stride_px
    for position in block.tiles:
        pixels = reader.read(plan.grid.tile(*position), plan.mpp)
        keep = slice(margin, margin + side)
        labels = np.asarray(predict(pixels[None]))[0].argmax(axis=0)[keep, keep]
        core = plan.grid.core(*position)
        part = core.intersect(block.box)
        out[part.slices(block.box)] = labels[part.slices(core)] + 1


if __name__ == "__main__":
    main()
