"""Rates of wrong, missed and doubtful channel orders on real tissue, also with shifted stains.

    python -m benchmarks.channel_order DATA [--copies 20]

DATA is the folder of shared test data. Each image is judged as it is and in copies with seeded
stains and brightness, in RGB and in BGR order. Images smaller than a slide's tissue are also put
together as mosaics. ``former`` counts the images that the rule on nuclei alone, without a doubt,
would exchange.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.slides.channel_order import DENSITY, channel_order
from noctile.pipeline.slides.open import open_slide

FOLDERS = {
    "bcss/images": 0,
    "camelyon/images": 0,
    "bcss-a1a0sk/images": 0,
    "colon/images": 4,
    "camelyon16-classes/images": 3,
    "pcam/images": 8,
}
"""Folders of images, and the number of images along a side of a mosaic; 0 for no mosaics."""

IN_BGR = ("bcss/images", "camelyon/images")
"""Folders whose images are stored in BGR order."""

SMALL = "pcam"
"""Folder whose single images have too little tissue for a certain order."""

SLIDES = ("CMU-1-Small-Region.svs", "camelyon-overview.dcm")

_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
"""Optical densities of haematoxylin, eosin and the rest. (Ruifrok & Johnston 2001, table 1)"""

HAEMATOXYLIN, EOSIN, BRIGHTNESS = (0.4, 1.8), (0.4, 2.5), (0.75, 1.0)
"""Ranges of the factors of the copies: of two stains (log-uniform) and of the light."""


def images(data: Path) -> Iterator[tuple[str, UInt8]]:
    """Group and pixels of each real image and mosaic in RGB order."""
    for folder, across in FOLDERS.items():
        paths = sorted((data / folder).iterdir())
        order = slice(None, None, -1) if folder in IN_BGR else slice(None)
        group = folder.split("/")[0]
        for path in paths:
            yield group, _pixels(path)[..., order]
        for k in range(0, len(paths) - across**2 + 1, max(1, across**2 // 2)) if across else ():
            yield f"mosaics of {group}", _mosaic(paths[k : k + across**2], across)
    for name in SLIDES:
        with closing(open_slide(data / "slides" / name, mpp=0.5)) as reader:
            yield name, reader.read(reader.info.frame.box, 0.5)


def _pixels(path: Path) -> UInt8:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _mosaic(paths: Sequence[Path], across: int) -> UInt8:
    tiles = [_pixels(path) for path in paths]
    height, width = tiles[0].shape[:2]
    fitting = [np.resize(tile, (height, width, 3)) for tile in tiles]
    rows = [np.hstack(fitting[k : k + across]) for k in range(0, len(fitting), across)]
    return np.vstack(rows)


def squares(pixels: UInt8) -> list[UInt8]:
    """Squares of 256 px, spread over an image as over a slide."""
    starts = [
        np.linspace(0, max(0, side - 256), min(8, -(-side // 256))).round().astype(int)
        for side in pixels.shape[:2]
    ]
    return [pixels[y : y + 256, x : x + 256] for y in starts[0] for x in starts[1]]


def shifted(parts: list[UInt8], rng: np.random.Generator) -> list[UInt8]:
    """Copy of an image with other amounts of both stains and other light."""
    h, e = (math.exp(rng.uniform(*np.log(limits))) for limits in (HAEMATOXYLIN, EOSIN))
    light = rng.uniform(*BRIGHTNESS)
    unmixed = np.linalg.inv(_STAINS)
    change = unmixed @ np.diag([h, e, 1]) @ _STAINS
    return [
        np.clip(256 * np.exp(-DENSITY[part] @ change) * light - 1, 0, 255).astype(np.uint8)
        for part in parts
    ]


def judge(data: Path, copies: int, seed: int = 0) -> dict[tuple[str, bool], Counter[str]]:
    """Count the orders found, by group and by (False, True) for (RGB, BGR) order of the file.

    Args:
        data: folder of shared test data.
        copies: number of shifted copies of each image.
        seed: seed of the copies.
    """
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for group, pixels in images(data):
        parts = squares(pixels)
        versions = [(group, parts)]
        versions += [(f"{group}, shifted", shifted(parts, rng)) for _ in range(copies)]
        for name, version in versions:
            for bgr in (False, True):
                order = channel_order(part[..., ::-1] if bgr else part for part in version)
                found[name, bgr][order] += 1
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--copies", type=int, default=20)
    arguments = parser.parse_args()
    found = judge(arguments.data, arguments.copies)
    print("| images | order | number | exchanged | doubtful | former |\n|---|---|---|---|---|---|")
    for (group, bgr), orders in found.items():
        former = orders["bgr"] + orders["doubtful"]
        print(
            f"| {group} | {'BGR' if bgr else 'RGB'} | {orders.total()} | {orders['bgr']} | "
            f"{orders['doubtful']} | {former} |"
        )
    right = [o for (group, bgr), o in found.items() if not (bgr or group.startswith(SMALL))]
    total, wrong = sum(o.total() for o in right), sum(o["bgr"] for o in right)
    # the one-sided bound of 95 % is 3 / n for no event (Hanley & Lippman-Hand 1983)
    print(f"\nexchanged wrongly, without {SMALL}: {wrong} of {total}; bound for 0: {3 / total:.3%}")


if __name__ == "__main__":
    main()
