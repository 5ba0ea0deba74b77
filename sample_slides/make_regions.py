"""Write generated tissue as a folder laid out and named like the official BCSS release.

    python -m sample_slides.make_regions OUT [--seeds 1000:1012] [--side 1024] [--mpp 0.25]
    [--varied]

``OUT/rgbs_colorNormalized/`` has RGB regions and ``OUT/masks/`` their class codes, both PNG of the
same name, such as ``TCGA-OL-03E9-DX1_xmin64064_ymin37037_MPP-0.2500.png``: patient and institute,
place in the slide, pixel size. Each seed is a patient; institutes take turns, official test ones
among them. A frame of code 0 surrounds each region, as it does where annotators drew askew.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sample_slides.generate import GLASS, make_region

UInt8 = npt.NDArray[np.uint8]

INSTITUTES = ("A2", "OL", "BH", "E2", "AR", "C8", "GM", "D8", "AO", "LL", "A7", "AN")
"""Tissue source sites of BCSS; OL, E2, GM and LL are official test ones."""

OUTSIDE, ALL_CODES = 0, range(1, 22)

_PATCH_SHARE = 12
"""A patch of a further code is this fraction of the side wide."""


def write_regions(
    out: Path,
    seeds: Iterable[int],
    side: int,
    mpp: float,
    *,
    all_codes: bool = False,
    varied: bool = False,
) -> list[Path]:
    """Write one region for each seed; its classes are tumor, stroma, lymphocytic infiltrate and fat
    (1, 2, 3, 9).

    Args:
        out: folder, made if it is not there.
        seeds: of the regions, below 65536, each the number of a patient; institutes take turns in
            their order.
        side: of the square regions (px).
        mpp: pixel size (um), close to 0.5 or a whole fraction of it.
        all_codes: draw squares of all codes 1..21 into each mask; the pixels below stay what they
            are.
        varied: see `Recipe.draw`.

    Returns:
        The images.
    """
    written = []
    for k, seed in enumerate(seeds):
        rgb, codes = make_region(seed, side, side, mpp, varied=varied)
        truth = annotate(codes, all_codes)
        institute = INSTITUTES[k % len(INSTITUTES)]
        name = f"TCGA-{institute}-{seed:04X}-DX1_xmin{seed * 64 % 90_000}_ymin{seed * 37 % 70_000}_MPP-{mpp:.4f}.png"
        for folder, pixels in (("rgbs_colorNormalized", rgb), ("masks", truth)):
            (out / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(out / folder / name)
        written.append(out / "rgbs_colorNormalized" / name)
    return written


def annotate(codes: UInt8, all_codes: bool) -> UInt8:
    """The mask that annotators would have made of a region's codes, uint8 of the same shape.

    Glass is outside, and so is a rim.
    """
    truth = np.where(codes == GLASS, np.uint8(OUTSIDE), codes)
    side = min(truth.shape)
    rim, patch = max(1, side // 64), side // _PATCH_SHARE
    if all_codes:
        for code in ALL_CODES:
            y, x = (rim + patch * 2 * part for part in divmod(code - 1, 5))
            truth[y : y + patch, x : x + patch] = code
    truth[:rim] = truth[-rim:] = truth[:, :rim] = truth[:, -rim:] = OUTSIDE
    return truth


def _range(text: str) -> range:
    start, _, stop = text.partition(":")
    return range(int(start), int(stop))


def main() -> None:
    """Write the folder and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--seeds", type=_range, default=range(1000, 1012), help="START:STOP (default: 1000:1012)"
    )
    parser.add_argument(
        "--side", type=int, default=1024, help="rows and columns of a region (px; default: 1024)"
    )
    parser.add_argument("--mpp", type=float, default=0.25, help="pixel size (um; default: 0.25)")
    parser.add_argument(
        "--varied",
        action="store_true",
        help="tumor cells of any size, density and chromatin, and glands",
    )
    a = parser.parse_args()
    for path in write_regions(a.out, a.seeds, a.side, a.mpp, varied=a.varied):
        print(path)


if __name__ == "__main__":
    main()
