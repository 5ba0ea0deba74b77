"""Measure the speed of reading 512-px tiles of tissue, next to other readers and decoding alone.

    python -m benchmarks.read [--slide FILE] [--scratch FOLDER] [--rounds 3] [--overlap-px 0 128]
    [--ndpi FILE]

Without ``--slide``, two slides of 24,000 x 20,000 px are made (256-px JPEG tiles, 35 % tissue):
(a) one of 0.5 um/px, read at its own pixel size, and (b) one of 0.25 um/px, read at 0.5 um/px. A
given slide is read at its own pixel size and at twice that.

All readers read the same list of tiles, in turn. All but tiffslide use one thread of one process
with the environment of a run's workers. The file is in the system's cache, and the time to open it
is not counted. ``floor`` only decodes the same JPEG tiles from memory, each once, with the same
libjpeg-turbo, at half scale in (b). OpenSlide and tiffslide read one tile at a time through their
`read_region`, and average 2 x 2 pixels with Pillow in (b).

``--ndpi`` compares OpenSlide with decoding alone on the finest level of a Hamamatsu slide, read 512
rows at a time. The level is one JPEG image with restart markers. Between these, each strip of 8
rows is an image of its own.
"""

import argparse
import os
import platform
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import simplejpeg
from openslide import OpenSlide
from PIL import Image
from tifffile import TiffFile
from tiffslide import TiffSlide

from benchmarks.common import side_by_side
from benchmarks.make_slide import SlideMaker
from noctile.pipeline.geometry import Box
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.open import open_slide, read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue
from noctile.workflows.processes.environment import worker_env

TILE_PX = 512
BLOCK_PX = 4096
WIDTH, HEIGHT, TISSUE = 24_000, 20_000, 0.35


@dataclass(frozen=True)
class Case:
    """Slide and tiles to read.

    Attributes:
        name: name of the case in the report.
        path: the slide.
        factor: level-0 pixels in a pixel that is read, along each axis.
        plan: plan of the tiles.
        bgr: `SlideReader.bgr`, which a run determines once for each slide.
    """

    name: str
    path: Path
    factor: int
    plan: TilePlan
    bgr: bool

    @property
    def boxes(self) -> list[Box]:
        """Boxes of the tiles in the order of the blocks, cut to the slide for other readers."""
        tiles = (self.plan.grid.tile(*tile) for block in self.plan.blocks for tile in block.tiles)
        return [tile.intersect(self.plan.frame.box) for tile in tiles]


def plan_case(name: str, path: Path, factor: int, overlap_px: int) -> Case:
    """Plan the tiles of tissue like a run."""
    with closing(open_slide(path)) as reader:
        native = reader.info.frame
        spec = TissueSpec()
        tissue = find_tissue(*read_thumbnail(reader, spec.mpp), spec)
        bgr = reader.bgr
    tiling = Tiling(native.mpp * factor, TILE_PX, overlap_px, "crop", BLOCK_PX, 2)
    return Case(name, path, factor, plan_tiles(path.stem, native, tissue, tiling), bgr)


Steps = Iterator[None]
"""Iterator with one step when the slide is open, then one step for each tile."""


def tiled(case: Case) -> Steps:
    """Read with Noctile's reader of tiled TIFF, like `segment_block`."""
    with closing(open_slide(case.path, bgr=case.bgr)) as reader:
        assert reader.info.reader == "tiled-tiff", f"{case.path} is read by {reader.info.reader}"
        yield from _blocks(case, reader)


def through_openslide(case: Case) -> Steps:
    """Read with Noctile's reader over OpenSlide, which serves other formats."""
    source = OpenSlideSource(case.path, "slide")
    with closing(read_with(source, case.path, "slide", bgr=case.bgr)) as reader:
        yield from _blocks(case, reader)


def _blocks(case: Case, reader: SlideReader) -> Steps:
    yield
    for block in case.plan.blocks:
        for _ in read_tiles(reader, case.plan, block.tiles):
            yield


def openslide(case: Case) -> Steps:
    """Read each tile with OpenSlide's `read_region`."""
    with OpenSlide(case.path) as slide:
        yield
        for box in case.boxes:
            size = box.width * case.factor, box.height * case.factor
            image = slide.read_region((box.x * case.factor, box.y * case.factor), 0, size).convert(
                "RGB"
            )
            np.asarray(image.reduce(case.factor))
            yield


def tiffslide(case: Case) -> Steps:
    """Read each tile with tiffslide's `read_region`."""
    with TiffSlide(case.path) as slide:
        yield
        for box in case.boxes:
            size = box.width * case.factor, box.height * case.factor
            pixels = slide.read_region(
                (box.x * case.factor, box.y * case.factor), 0, size, as_array=True
            )
            if case.factor > 1:
                np.asarray(Image.fromarray(pixels).reduce(case.factor))
            yield


def floor(case: Case) -> Steps:
    """Decode the JPEG streams of all tiles under the boxes, from memory and each once."""
    with TiffFile(case.path) as tiff:
        page = tiff.pages.first
        side = page.tilewidth // case.factor
        across = -(-page.imagewidth // page.tilewidth)
        numbers = sorted(
            {
                row * across + col
                for box in case.boxes
                for row in range(box.y // side, -(-box.y_stop // side))
                for col in range(box.x // side, -(-box.x_stop // side))
            }
        )
        streams = []
        for number in numbers:
            tiff.filehandle.seek(page.dataoffsets[number])
            streams.append(tiff.filehandle.read(page.databytecounts[number]))

    yield
    for stream in streams:
        simplejpeg.decode_jpeg(stream, min_height=side, min_width=side, min_factor=case.factor)
        yield


READERS = {
    "floor": floor,
    "tiled-tiff": tiled,
    "openslide in Noctile": through_openslide,
    "openslide": openslide,
    "tiffslide": tiffslide,
}

Seconds = tuple[float, float]
"""Wall time and CPU time of the process (s). Other programs disturb CPU time less."""


def measure(case: Case, rounds: int) -> dict[str, Seconds]:
    """Measure the median times of all readers in turn, without opening the slide."""
    taken: dict[str, list[Seconds]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name, read in READERS.items():
            steps = read(case)
            next(steps)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in steps:
                pass
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (median(w for w, _ in values), median(c for _, c in values))
        for name, values in taken.items()
    }


def as_worker(case: Case, rounds: int) -> dict[str, Seconds]:
    """Run `measure` in a process like a worker of a run."""
    with (
        patch.dict(os.environ, worker_env(1, gpus=False)),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        return pool.submit(measure, case, rounds).result()


def report(case: Case, seconds: dict[str, Seconds]) -> None:
    """Print a table of ratios of wall time, with those of CPU time in brackets."""
    count = len(case.boxes)
    print(f"\n{case.name}, overlap {case.plan.grid.overlap_px} px: {count} tiles of {TILE_PX} px")
    print("| reader | tiles/s | of the floor | times openslide |\n|---|---|---|---|")
    for name, (wall, cpu) in seconds.items():
        ratios = (
            f"{base_wall / wall:.2f} ({base_cpu / cpu:.2f})"
            for base_wall, base_cpu in (seconds["floor"], seconds["openslide"])
        )
        print(f"| {name} | {count / wall:.0f} | {' | '.join(ratios)} |", flush=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--slide", type=Path, help="slide of JPEG tiles (default: two slides are made)"
    )
    parser.add_argument("--scratch", type=Path, help="folder in which the made slides are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overlap-px", type=int, nargs="+", default=[0, 128])
    parser.add_argument("--ndpi", type=Path, help="Hamamatsu slide; nothing else is measured")
    a = parser.parse_args()
    processor = platform.processor() or platform.machine()
    print(f"{processor}, Python {platform.python_version()}, one thread")
    if a.ndpi:
        ndpi(a.ndpi, a.rounds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        slides = [("its own pixels", a.slide, 1), ("half its pixels", a.slide, 2)]
        if a.slide is None:
            slides = list(_make_slides(a.scratch or Path(temporary)))
        for name, path, factor in slides:
            for overlap_px in a.overlap_px:
                case = plan_case(name, path, factor, overlap_px)
                report(case, as_worker(case, a.rounds))


def ndpi(path: Path, rounds: int) -> None:
    """Print the CPU speed of OpenSlide on a Hamamatsu slide, and of decoding its streams alone."""
    with TiffFile(path) as tiff, OpenSlide(path) as slide:
        page = tiff.pages.first
        height, width, _ = page.shape
        rows, across, _ = page.chunks
        head = bytearray(page.jpegheader or b"")
        frame = head.index(b"\xff\xc0")
        head[frame + 5 : frame + 9] = struct.pack(">2H", rows, across)
        streams = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(offset)
            scan = tiff.filehandle.read(count)
            streams.append(bytes(head) + (scan[:-2] if scan[-2] == 0xFF else scan) + b"\xff\xd9")

        def through_library() -> None:
            for y in range(0, height, TILE_PX):
                np.asarray(
                    slide.read_region((0, y), 0, (width, min(TILE_PX, height - y))).convert("RGB")
                )

        def decode() -> None:
            for stream in streams:
                simplejpeg.decode_jpeg(stream, "RGB")

        found = side_by_side({"openslide": through_library, "floor": decode}, rounds)
    for name, (_, cpu) in found.items():
        print(f"{name}: {height * width / 1e6 / cpu:.0f} million pixels/s of CPU")


def _make_slides(folder: Path) -> Iterator[tuple[str, Path, int]]:
    for name, mpp, factor in (
        ("(a) 20x slide as it is", 0.5, 1),
        ("(b) 40x slide for a 20x model", 0.25, 2),
    ):
        path = folder / f"{WIDTH}x{HEIGHT}-{mpp}.tif"
        if not path.exists():
            SlideMaker(WIDTH, HEIGHT, TISSUE, mpp, seed=1).write(path)
        yield name, path, factor


if __name__ == "__main__":
    main()
