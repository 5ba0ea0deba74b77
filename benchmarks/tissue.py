"""Cost of a slide before its first tile is read: open, overview, tissue and plan.

    python -m benchmarks.tissue

It prints seconds of CPU for each step on generated slides of four sizes, medians of 3. For
comparison it measures an overview by OpenSlide's ``get_thumbnail`` with scikit-image's Otsu
threshold, as most tools make it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from openslide import OpenSlide
from skimage.filters import threshold_otsu

from benchmarks.common import machine, side_by_side, slide
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue

SIZES = ((12_000, 10_000), (24_000, 20_000), (48_000, 40_000), (96_000, 80_000))


def otsu(path: str, mpp: float, side: float) -> None:
    """Divide the grey values of a thumbnail at Otsu's threshold."""
    with OpenSlide(path) as opened:
        width, height = opened.dimensions
        grey = np.asarray(
            opened.get_thumbnail((round(width * side / mpp), round(height * side / mpp))).convert(
                "L"
            )
        )
    grey < threshold_otsu(grey)  # type: ignore[no-untyped-call]  # noqa: B015


def _open(path: Path) -> None:
    open_slide(path).close()


def main() -> None:
    """Print the table."""
    print(f"{machine()}\n")
    print(
        "| slide (px) | open s | overview s | tissue s | plan s | thumbnail + Otsu s "
        "|\n|---|---|---|---|---|---|"
    )
    for width, height in SIZES:
        path = slide(width, height)
        reader = open_slide(path)
        spec = TissueSpec()
        overview, frame = read_thumbnail(reader, spec.mpp)
        tissue = find_tissue(overview, frame, spec)
        tiling = Tiling(0.5, 512, 128, "crop", 4096, 21)
        work: dict[str, Callable[[], object]] = {
            "open": partial(_open, path),
            "overview": partial(read_thumbnail, reader, spec.mpp),
            "tissue": partial(find_tissue, overview, frame, spec),
            "plan": partial(plan_tiles, "slide", reader.info.frame, tissue, tiling),
            "otsu": partial(otsu, str(path), spec.mpp, reader.info.frame.mpp),
        }
        cpu = [f"{seconds:.2f}" for _, seconds in side_by_side(work).values()]
        print(f"| {width} x {height} | {' | '.join(cpu)} |", flush=True)
        reader.close()


if __name__ == "__main__":
    main()
