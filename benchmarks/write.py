"""Cost of writing a label map: the shards of the blocks, and the levels above them.

    python -m benchmarks.write

The label map has 2 x 2 blocks of 4224 px. Its classes are drawn in patches, as networks make them,
and pixel by pixel as noise (the worst case). The table gives milliseconds of CPU for each million
pixels of level 0, medians of 3. The task of a block writes its shards of the first levels and of
the heat maps. For comparison: the same labels through zstd alone, which is a lower bound, and those
of level 0 through ``numpy.save``.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from imagecodecs import zstd_encode

from benchmarks.common import machine, side_by_side
from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.layout import BLOCK_LEVELS, MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo

SIDE = 4224
CHUNK = 1056
BLOCKS = 2  # along each axis


def patches(rng: np.random.Generator) -> UInt8:
    """Draw labels 1..21 in patches of 64 px."""
    side = -(-SIDE // 64)
    small: UInt8 = rng.integers(1, 22, (side, side), np.uint8)
    return small.repeat(64, axis=0).repeat(64, axis=1)[:SIDE, :SIDE]


def noise(rng: np.random.Generator) -> UInt8:
    """Draw labels 1..21, for each pixel by itself."""
    return rng.integers(1, 22, (SIDE, SIDE), np.uint8)


def create(folder: Path) -> MaskStore:
    """Create an empty store of `BLOCKS` x `BLOCKS` blocks."""
    classes = tuple(
        ClassInfo(code=k, name=f"class_{k}", color=(k, k, k), role="tissue") for k in range(1, 22)
    )
    frame = Frame(Extent(BLOCKS * SIDE, BLOCKS * SIDE), 0.5, 0.5)
    thumbnail = Frame(Extent(528, 528), 8.0, 8.0)
    slide = {"mpp": [0.5, 0.5], "bounds_px": [0, 0, BLOCKS * SIDE, BLOCKS * SIDE]}
    layout = MaskLayout(frame, SIDE, CHUNK, classes)
    return MaskStore.create(
        folder, layout, np.zeros((528, 528, 3), np.uint8), thumbnail, {"slide": slide}
    )


def write(store: MaskStore, labels: UInt8) -> None:
    """Write every block."""
    maps = np.full((SIDE // 8, SIDE // 8), 200, np.uint8)
    for row in range(BLOCKS):
        for col in range(BLOCKS):
            store.write(store.layout.shard_box(row, col), labels, maps, maps)


def floor(labels: UInt8) -> None:
    """Encode the same chunks with the same codec, and write nothing."""
    levels = [labels]
    while len(levels) < BLOCK_LEVELS:
        levels.append(levels[-1][::2, ::2])  # every second pixel: halving is not measured
    for _ in range(BLOCKS**2):
        for level in levels:
            for y, x in product(range(0, len(level), CHUNK), repeat=2):
                zstd_encode(
                    np.ascontiguousarray(level[y : y + CHUNK, x : x + CHUNK]).tobytes(), level=1
                )


def main() -> None:
    """Print the table."""
    million = BLOCKS**2 * SIDE**2 / 1e6
    print(f"{machine()}\n\n| labels | zstd alone | blocks | levels above | numpy.save |")
    print("|---|---|---|---|---|")
    for name, draw in (("patches", patches), ("noise", noise)):
        labels = draw(np.random.default_rng(0))
        with tempfile.TemporaryDirectory() as scratch:
            store = create(Path(scratch) / "mask.ome.zarr")
            whole = np.tile(labels, (BLOCKS, BLOCKS))
            work: dict[str, Callable[[], object]] = {
                "zstd": partial(floor, labels),
                "shards": partial(write, store, labels),
                "above": partial(build_pyramid, store),
                "numpy.save": partial(np.save, Path(scratch) / "labels.npy", whole),
            }
            cpu = [
                f"{1000 * seconds / million:.2f} ms" for _, seconds in side_by_side(work).values()
            ]
        print(f"| {name} | {' | '.join(cpu)} |", flush=True)


if __name__ == "__main__":
    main()
