"""Write small H&E-like slides from a seed; the class of each pixel is known.

    python -m sample_slides.generate [--out sample_slides]

A slide is made in three steps from array to array. `layout.lay_out` draws the class of each pixel:
smooth noise, thresholded at the wanted shares. `stains.stain_amounts` fills the classes with wavy
fibres, nests of crowded nuclei, clusters of lymphocytes and fat cells. Its result is the amount of
haematoxylin and eosin in each pixel. `stains.develop` converts these to light by Beer-Lambert's
law, and adds the blur and noise of a scanner.

The same seed gives the same bytes with the same versions of NumPy, SciPy, Pillow and imagecodecs.
"""

import argparse
import csv
from pathlib import Path

from sample_slides.files import areas, write_slide, write_truth
from sample_slides.samples import SAMPLES, draw_slide


def main() -> None:
    """Write all sample slides, their truth and the table of areas."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent,
        help="folder (default: that of this module)",
    )
    out: Path = parser.parse_args().out
    (out / "truth").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str]] = []
    for sample in SAMPLES:
        rgb, truth = draw_slide(sample)
        write_slide(out / sample.file, rgb, sample)
        write_truth(out / "truth" / f"{sample.slide_id}.png", truth)
        rows += areas(sample, truth)
        size_mb = (out / sample.file).stat().st_size / 1e6
        print(f"{out / sample.file}: {sample.width} x {sample.height} px, {size_mb:.2f} MB")
    with (out / "truth" / "areas.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("slide_id", "class", "area_mm2"), *rows])


if __name__ == "__main__":
    main()
