"""Tumor Dice, precision and recall on real regions, of the stain alone and of a model.

    python -m benchmarks.real_regions DATA --mpp 0.25 [--model tumor]

DATA is a folder of regions as `noctile train` reads it. The figures of a model that was trained on
these regions mean nothing. `benchmarks.leave_one_out` writes models that have not seen one region;
``--model`` takes their folders.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.metrics.region_counts import count_region
from noctile.pipeline.models.folder import find_model
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.normalize import predictor_for_slide, stain_amounts
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.region import Region, load_region
from noctile.pipeline.truth.scheme import IGNORED, load_scheme
from noctile.workflows.commands.annotate import find_slide_candidates


def by_stain(region: Region, targets: UInt8, mpp: float) -> Bool:
    """Tumor candidates of a region, on the grid of its targets."""
    with closing(open_slide(region.image, mpp=region.mpp)) as reader:
        found, tissue = find_slide_candidates(reader)
        frame = reader.info.frame.at(mpp)
        inside: Bool = found.on(frame.box, frame) & tissue.on(frame.box, frame)
    assert inside.shape == targets.shape
    return inside


def predictions(region: Region, model: str) -> Iterator[tuple[str, Bool, UInt8]]:
    """Predictions of a region: name of the method, tumor pixels, and true classes."""
    scheme = load_scheme("tumor")
    predict = load_predictor(find_model(model))
    mpp = predict.card.mpp
    pixels = load_region(region, scheme, mpp)
    predict = predictor_for_slide(predict, stain_amounts([pixels.rgb]))
    yield "stain alone", by_stain(region, pixels.targets, mpp), pixels.targets
    groups = [0 if info.role == "tumor" else 1 for info in predict.card.classes]
    _, labels = count_region(region, pixels, predict, groups, 2, 8)
    yield model, labels == 0, pixels.targets


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", default="tumor")
    a = parser.parse_args()
    print("| region | by | Dice | precision | recall |\n|---|---|---|---|---|")
    for region in find_regions(DataSource(path=a.data, mpp=a.mpp)):
        for name, found, targets in predictions(region, a.model):
            truth, known = targets == 0, targets != IGNORED
            both, claimed, there = (
                int(np.count_nonzero(m)) for m in (found & truth, found & known, truth)
            )
            p, r = both / max(claimed, 1), both / max(there, 1)
            print(
                f"| {region.region_id} | {name} | {2 * p * r / max(1e-9, p + r):.3f} | {p:.3f} | "
                f"{r:.3f} |"
            )


if __name__ == "__main__":
    main()
