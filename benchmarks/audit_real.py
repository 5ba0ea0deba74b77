"""Corrected tumor areas of real regions, with points that are answered from the true masks.

    python -m benchmarks.audit_real DATA --mpp 0.25 [--model tumor] [--points 300] [--repeats 200]

DATA is a folder of regions as `noctile train` reads it. Each region is a slide of a group of its
own. Two methods predict: the stain alone, and a model. Points are drawn as `noctile audit --by`
draws them, answered from the true mask, and corrected as `noctile cohort --audit` corrects. A model
that was trained on these regions is nearer to the truth than on others; its areas are corrected in
the same way. ``--model 'folds/without-{region}-0.5'`` takes for each region the model that
`benchmarks.leave_one_out` trained without it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.real_regions import predictions
from noctile.pipeline.arrays import Float64, UInt8
from noctile.pipeline.audit.design import allocate, weights_mm2
from noctile.pipeline.audit.draw import LabelParts, draw_points
from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.scheme import IGNORED

TUMOR, OTHER = 1, 2
"""Codes of predicted and of true labels; 0 is not known."""


PART_PX = 256
"""Side of a part in which labels are counted (px)."""


@dataclass(frozen=True)
class Predicted:
    """Prediction of a region beside its truth.

    Attributes:
        labels: uint8 ``[h, w]``, predicted codes; 0 where the truth is not known.
        truth: uint8 ``[h, w]``, true codes.
        mpp: size of a pixel (um).
    """

    labels: UInt8
    truth: UInt8
    mpp: float

    @cached_property
    def parts(self) -> LabelParts:
        """Predicted labels in parts, as a result has them."""
        whole = Box.of(Extent(*self.labels.shape))
        rows, columns = range(0, whole.height, PART_PX), range(0, whole.width, PART_PX)
        boxes = [Box(y, x, PART_PX, PART_PX).intersect(whole) for y in rows for x in columns]
        read = [self.labels[box.slices()] for box in boxes]
        pixels = np.array([[np.count_nonzero(p == code) for code in (TUMOR, OTHER)] for p in read])
        mpp = (self.mpp, self.mpp)
        return LabelParts(boxes, pixels, (TUMOR, OTHER), mpp, lambda box: self.labels[box.slices()])

    def area_mm2(self, labels: UInt8) -> Float64:
        """Area of tumor and of other tissue (mm2)."""
        return np.array([np.count_nonzero(labels == c) for c in (TUMOR, OTHER)]) * (
            self.mpp**2 / 1e6
        )


def corrected(regions: Sequence[Predicted], points: int, seed: int) -> list[Estimate]:
    """Tumor area of each region, corrected by points that the truth answers (mm2)."""
    areas = np.stack([region.area_mm2(region.labels) for region in regions])
    numbers, one = np.arange(len(regions)), np.ones(len(regions))
    counts = allocate(areas, numbers, one, points, seed)
    rng, drawn = np.random.default_rng([seed, 1]), []
    for row, region in enumerate(regions):
        drawn += [
            (row, p.stratum, int(region.truth[p.y, p.x]) - 1)
            for p in draw_points(region.parts, counts[row].tolist(), rng)
        ]
    slides, strata, answers = np.array(drawn, np.int64).T
    found = np.zeros_like(counts)
    np.add.at(found, (slides, strata), 1)
    weights = weights_mm2(areas, numbers, one, found)[slides, strata]
    frame = AuditFrame(numbers, numbers, areas, one)
    sample = AuditSample(slides, strata, answers, weights)
    groups = range(len(regions))
    return [corrected_areas(frame, sample, group).classes[0].area_mm2 for group in groups]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", default="tumor")
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=200)
    a = parser.parse_args()
    by_method: dict[str, list[tuple[str, Predicted]]] = {}
    for region in find_regions(DataSource(path=a.data, mpp=a.mpp)):
        model = a.model.format(region=region.region_id)
        mpp = read_card(find_model(model)).mpp
        for name, tumor, targets in predictions(region, model):
            known = targets != IGNORED
            codes = [np.where(t, TUMOR, OTHER) * known for t in (tumor, targets == 0)]
            labels, truth = (code.astype(np.uint8) for code in codes)
            method = name.replace(model, a.model)
            predicted = Predicted(labels, truth, mpp)
            by_method.setdefault(method, []).append((region.region_id, predicted))
    print("| region | by | raw / true | corrected / true, seed 0 | intervals that hold the truth |")
    print("|---|---|---|---|---|")
    for name, found in by_method.items():
        report(name, found, a.points, a.repeats)


def report(name: str, found: Sequence[tuple[str, Predicted]], points: int, repeats: int) -> None:
    """Print the rows of one method."""
    regions = [region for _, region in found]
    runs = [corrected(regions, points, seed) for seed in range(repeats)]
    for row, (region_id, region) in enumerate(found):
        true = region.area_mm2(region.truth)[0]
        raw, first = region.area_mm2(region.labels)[0] / true, runs[0][row]
        held = np.mean([run[row].low <= true <= run[row].high for run in runs])
        ends = f"{first.low / true:.2f} to {first.high / true:.2f}"
        print(
            f"| {region_id} | {name} | {raw:.2f} | {first.value / true:.2f} ({ends}) | "
            f"{100 * held:.0f} % of {repeats} |"
        )


if __name__ == "__main__":
    main()
