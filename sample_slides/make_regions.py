"""Write regions of generated tissue in the folders and with the names of the official BCSS release.

    python -m sample_slides.make_regions OUT [--seeds 1000:1012] [--side 1024] [--mpp 0.25]
    [--varied]

``OUT/rgbs_colorNormalized/`` has RGB regions and ``OUT/masks/`` their class codes. Both are PNG
files of the same name, such as ``TCGA-OL-03E9-DX1_xmin64064_ymin37037_MPP-0.2500.png``: institute
and patient, position in the slide, pixel size. Each seed is a patient. The institutes alternate,
with official test institutes among them. A frame of code 0 surrounds each region, as in BCSS
regions whose annotation is not upright.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import UInt8
from sample_slides.recipe import GLASS
from sample_slides.region import make_region

INSTITUTES = ("A2", "OL", "BH", "E2", "AR", "C8", "GM", "D8", "AO", "LL", "A7", "AN")
"""Tissue source sites of BCSS; OL, E2, GM and LL are official test sites."""

OUTSIDE, ALL_CODES = 0, range(1, 22)

_PATCH_SHARE = 12
"""Sides of a patch of a further code in a side of the region."""


def write_regions(
    out: Path,
    seeds: Iterable[int],
    side: int,
    mpp: float,
    *,
    all_codes: bool = False,
    varied: bool = False,
) -> list[Path]:
    """Write one region for each seed.

    Its classes are tumor, stroma, lymphocytic infiltrate and fat (1, 2, 3, 9).

    Args:
        out: folder, which is made if it does not exist.
        seeds: seeds of the regions, below 65536; each is also the number of a patient.
        side: side of the square regions (px).
        mpp: pixel size (um), close to 0.5 or a whole fraction of it.
        all_codes: True to draw squares of all codes 1..21 into each mask; the RGB pixels stay as
            they are.
        varied: see `Recipe.draw`.

    Returns:
        paths of the images.
    """
    written = []
    for k, seed in enumerate(seeds):
        rgb, codes = make_region(seed, side, side, mpp, varied=varied)
        truth = annotate(codes, all_codes)
        institute = INSTITUTES[k % len(INSTITUTES)]
        position = f"xmin{seed * 64 % 90_000}_ymin{seed * 37 % 70_000}"
        name = f"TCGA-{institute}-{seed:04X}-DX1_{position}_MPP-{mpp:.4f}.png"
        for folder, pixels in (("rgbs_colorNormalized", rgb), ("masks", truth)):
            (out / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(out / folder / name)
        written.append(out / "rgbs_colorNormalized" / name)
    return written


def annotate(codes: UInt8, all_codes: bool) -> UInt8:
    """Make the mask of a region as annotators draw it: glass and a rim are outside.

    Args:
        codes: class codes, uint8 ``[h, w]``.
        all_codes: see `write_regions`.

    Returns:
        codes of the mask, uint8 ``[h, w]``.
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
    """Write the regions and print their paths."""
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
