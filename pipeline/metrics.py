"""How good a model's answers are: counts of pixels, figures made of them, and how sure one can be
of these.

Everything is a function of confusion matrices (rows truth, columns prediction), which add up: over
tiles to a region, over regions to a patient, an institute or the whole set. So nothing is kept that
grows with the pixels.

Pixels whose truth is `IGNORED` count nowhere. Classes with the role "ignore" are answers like any
other: they are in the matrix, in the accuracy and in what other classes lose to them; only the
means over classes leave them out, as the validation Dice of a training does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, Final, Literal, get_args

import array_api_compat
import numpy as np
import numpy.typing as npt
import torch
from segmentation_models_pytorch import metrics

from noctile.pipeline.arrays import Float32, Float64, Int64, UInt8
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.card import ClassInfo, Predictor
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.truth.region import NEAR_WHITE, LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme

N_BINS: Final = 15
"""Bins of confidence in the calibration error. (Guo et al. 2017, arXiv 1706.04599)"""

RESAMPLES: Final = 1000
LEVEL: Final = 95
"""Draws of the bootstrap, and the share of them (%) that an interval holds. (percentile method,
Efron 1979)"""

FEWEST_UNITS: Final = 3
"""With fewer patients a bootstrap by patient says nothing; with fewer blocks nothing is said at
all."""

BLOCK_PX: Final = 512
"""Side of the blocks (px at the model's pixel size) that are drawn instead of patients where these
are too few."""

Metric = Literal["precision", "recall", "f1", "iou"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)


@dataclass(frozen=True, slots=True, eq=False)
class RegionScore:
    """What was counted in one region.

    Attributes:
        region: which one.
        confusion: int64 ``[n, n]`` pixels, rows truth, columns prediction.
        bins: float64 ``[N_BINS, 3]``: pixels of each bin of confidence, their sum of confidence,
            how many are right.
        blocks: int64 ``[blocks, n, n]``, the same for each of the region's blocks of `BLOCK_PX`;
            empty once not needed.
        stain: mean R, G, B of what is not near white: how the region is stained.
    """

    region: Region
    confusion: Int64
    bins: Float64
    blocks: Int64
    stain: tuple[int, int, int]


def score_region(
    region: Region,
    pixels: LabelledPixels,
    predict: Predictor,
    groups: Sequence[int],
    n: int,
    batch_size: int,
) -> tuple[RegionScore, UInt8]:
    """Predict a region as a run does (window ``crop``, white outside, no tissue mask) and count.

    Held are the region and one batch.

    Args:
        region: which one.
        pixels: of the region, at the model's pixel size.
        predict: the model.
        groups: class of the truth that each class of the model answers; ``range(n)`` where these
            are the same.
        n: classes of the truth.
        batch_size: tiles looked at together.

    Returns:
        The score, and the predicted classes, uint8 ``[h, w]``.
    """
    targets = pixels.targets
    labels, bins = np.zeros_like(targets), np.zeros((N_BINS, 3))
    grid = TileGrid(predict.card.tile_px, predict.card.overlap_px, Extent(*targets.shape))
    frame = Box.of(grid.extent)
    positions = iter(np.ndindex(grid.shape))
    while batch := list(islice(positions, batch_size)):
        answers = predict(np.stack([_cut(pixels.rgb, grid.tile(*position)) for position in batch]))
        inner = slice(grid.margin_px, grid.margin_px + grid.stride_px)
        for position, *answer in zip(
            batch, *decide(answers[:, :, inner, inner], groups), strict=True
        ):
            core = grid.core(*position)
            part = core.intersect(frame)
            found, confidence = (values[part.slices(core)] for values in answer)
            labels[part.slices()] = found
            bins += _bins(targets[part.slices()], found, confidence)
    confusions = np.stack(
        [_confusion(targets[box.slices()], labels[box.slices()], n) for box in _blocks(frame)]
    )
    return RegionScore(region, confusions.sum(axis=0), bins, confusions, _stain(pixels.rgb)), labels


def decide(probabilities: Any, groups: Sequence[int]) -> tuple[UInt8, Float32]:
    """The class of each pixel, and how sure the model is of it; computed where the probabilities
    are.

    The model's most probable class wins, the first of equals, as in a run; then it counts as its
    group, with the probability of the whole group.

    Args:
        probabilities: float ``[tiles, channels, h, w]``, numpy or torch.
        groups: of each channel.

    Returns:
        Groups, uint8 ``[tiles, h, w]``, and probabilities, float32 of the same shape; both in
        numpy.
    """
    xp = array_api_compat.array_namespace(probabilities)
    codes = xp.asarray(np.asarray(groups, np.uint8), device=array_api_compat.device(probabilities))
    best = probabilities[:, 0]
    labels = xp.zeros_like(best, dtype=xp.uint8) + codes[0]
    for k in range(1, len(groups)):  # many times faster than argmax across channels
        labels = xp.where(probabilities[:, k] > best, codes[k], labels)
        best = xp.maximum(best, probabilities[:, k])
    if len(set(groups)) < len(groups):
        sums = [xp.zeros_like(best) for _ in range(max(groups) + 1)]
        for k, group in enumerate(groups):
            sums[group] = sums[group] + probabilities[:, k]
        for group, probability in enumerate(sums):
            best = xp.where(labels == group, probability, best)
    return np.asarray(array_api_compat.to_device(labels, "cpu")), np.asarray(
        array_api_compat.to_device(best, "cpu")
    )


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Figures of one confusion matrix, or of many at once (leading axes).

    A class that is not in the truth has no figures (NaN) and is in no mean. One that is, but is
    never predicted, has precision 0. Dice is F1: at the level of pixels they are one number.

    Attributes:
        accuracy: share of the pixels that are right, ``[...]``.
        precision: ``[..., n]``, tp / (tp + fp).
        recall: ``[..., n]``, tp / (tp + fn).
        f1: ``[..., n]``, 2 tp / (2 tp + fp + fn), the harmonic mean of the two.
        iou: ``[..., n]``, tp / (tp + fp + fn).
        counted: bool ``[n]``, which classes are in the means.
    """

    accuracy: Float64
    precision: Float64
    recall: Float64
    f1: Float64
    iou: Float64
    counted: npt.NDArray[np.bool_]

    @property
    def dice(self) -> Float64:
        """``[..., n]``, see `f1`."""
        return self.f1

    def of(self, metric: Metric) -> Float64:
        """``[..., n]``, one of `METRICS`."""
        values: Float64 = getattr(self, metric)
        return values

    def mean(self, metric: Metric) -> Float64:
        """``[...]``, over the counted classes that are in the truth (macro average); NaN if there
        is none.

        Mean F1 is the mean of the classes' F1 (Opitz and Burst 2019, arXiv 1911.03347), not that of
        mean P and R.
        """
        values = self.of(metric)[..., self.counted]
        number = np.isfinite(values).sum(axis=-1)
        return np.where(number > 0, np.nansum(values, axis=-1) / np.maximum(number, 1), np.nan)


def figures(confusion: Int64, counted: Sequence[bool]) -> Figures:
    """Figures of confusion matrices, int64 ``[..., n, n]``, by
    `segmentation_models_pytorch.metrics`.

    Its ``accuracy`` is not used: it counts true negatives of every class, which makes 21 classes
    look good.
    """
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    fn, fp = support - tp, confusion.sum(axis=-2) - tp
    total = confusion.sum(axis=(-2, -1))
    tn = total[..., None] - tp - fp - fn
    counts = [torch.from_numpy(values.astype(np.float64)) for values in (tp, fp, fn, tn)]

    def of(metric: Callable[..., torch.Tensor]) -> Float64:
        return np.where(
            support > 0, metric(*counts, reduction="none", zero_division=0.0).numpy(), np.nan
        )

    accuracy = np.where(total > 0, tp.sum(axis=-1) / np.maximum(total, 1), np.nan)
    return Figures(
        accuracy=accuracy,
        precision=of(metrics.precision),
        recall=of(metrics.recall),
        f1=of(metrics.f1_score),
        iou=of(metrics.iou_score),
        counted=np.asarray(counted, bool),
    )


def merged(confusion: Int64, groups: Sequence[int]) -> Int64:
    """Confusion of coarser classes, and of one more that holds the answers `IGNORED`.

    Args:
        confusion: int64 ``[..., n, n]``.
        groups: of each class, 0..m-1 or `IGNORED`; pixels whose truth is ignored are dropped, those
            whose answer is ignored are wrong.

    Returns:
        int64 ``[..., m + 1, m + 1]``; the last row is 0.
    """
    m = max(group for group in groups if group != IGNORED) + 1
    place = np.zeros((len(groups), m + 1), np.int64)
    place[np.arange(len(groups)), [m if group == IGNORED else group for group in groups]] = 1
    result: Int64 = place.T @ confusion @ place
    result[..., m, :] = 0
    return result


def coarser(scheme: ClassScheme, to: ClassScheme) -> list[int] | None:
    """Class of ``to``, or `IGNORED`, that each class of ``scheme`` is part of; None if one is part
    of several.
    """
    parts: list[set[int | None]] = [set() for _ in scheme.classes]
    for code, k in scheme.sources.items():
        if k != IGNORED:
            parts[k].add(to.sources.get(code))
    found = [part.pop() if len(part) == 1 else None for part in parts]
    return [group for group in found if group is not None] if None not in found else None


def bootstrap(confusions: Int64, resamples: int = RESAMPLES, seed: int = 0) -> Int64:
    """Confusions of sets of as many units, drawn with replacement.

    Args:
        confusions: int64 ``[units, n, n]``.
        resamples: how many sets are drawn.
        seed: of the draws.

    Returns:
        int64 ``[resamples, n, n]``.
    """
    units = len(confusions)
    times = np.random.default_rng(seed).multinomial(
        units, np.full(units, 1 / units), size=resamples
    )
    sums = times.astype(np.float64) @ confusions.reshape(units, -1).astype(
        np.float64
    )  # whole numbers, exact
    return sums.astype(np.int64).reshape(resamples, *confusions.shape[1:])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Figures of a set, and of the sets that were drawn from it (None: too few units to draw from)."""

    pooled: Figures
    drawn: Figures | None

    def estimate(self, pick: Callable[[Figures], Float64]) -> Estimate:
        """One figure with its interval; draws in which it does not exist (the class is not in them)
        are left out.
        """
        value, low, high = float(pick(self.pooled)), np.nan, np.nan
        if self.drawn is not None and np.isfinite(value):
            draws = pick(self.drawn)
            low, high = np.percentile(draws[np.isfinite(draws)], (50 - LEVEL / 2, 50 + LEVEL / 2))
        return Estimate(value, float(low), float(high))

    def of_class(self, metric: Metric, k: int) -> Estimate:
        """One class."""
        return self.estimate(lambda f: f.of(metric)[..., k])

    def mean(self, metric: Metric) -> Estimate:
        """See `Figures.mean`."""
        return self.estimate(lambda f: f.mean(metric))

    @property
    def accuracy(self) -> Estimate:
        """Share of the pixels that are right."""
        return self.estimate(lambda f: f.accuracy)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How far a model's confidence is to be believed; arrays are float64 ``[bins]``, NaN where a
    bin is empty.

    Attributes:
        pixels: in each bin of confidence (equal widths from 0 to 1).
        confidence: mean confidence of the bin.
        accuracy: share of its pixels that are right.
        ece: expected calibration error: mean distance of the two, weighted by pixels (Guo et al.
            2017).
    """

    pixels: Float64
    confidence: Float64
    accuracy: Float64
    ece: float


def calibration(bins: Float64) -> Calibration:
    """Calibration from counts, float64 ``[bins, 3]``, see `RegionScore`."""
    pixels = bins[:, 0]
    confidence, accuracy = np.where(pixels > 0, bins[:, 1:].T / np.maximum(pixels, 1), np.nan)
    total = pixels.sum()
    ece = float(np.nansum(pixels * np.abs(confidence - accuracy)) / total) if total else np.nan
    return Calibration(pixels, confidence, accuracy, ece)


_GROUPS = {"region": "region_id", "institute": "institute", "source": "source"}
"""Tables of a measurement, and the field of a region that each goes by."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A model measured on a set of regions.

    Attributes:
        classes: of the confusion matrices.
        scores: of the regions.
    """

    classes: tuple[ClassInfo, ...]
    scores: tuple[RegionScore, ...]

    @property
    def counted(self) -> list[bool]:
        """Which classes are in the means."""
        return [info.role != "ignore" for info in self.classes]

    @cached_property
    def confusion(self) -> Int64:
        """All pixels, int64 ``[n, n]``."""
        return _total(self.scores)

    @cached_property
    def calibration(self) -> Calibration:
        """Over all pixels."""
        return calibration(np.sum([score.bins for score in self.scores], axis=0))

    def by(self, name: Callable[[Region], str]) -> dict[str, list[RegionScore]]:
        """Scores of groups of regions, sorted by the groups' names."""
        groups: dict[str, list[RegionScore]] = {
            key: [] for key in sorted({name(s.region) for s in self.scores})
        }
        for score in self.scores:
            groups[name(score.region)].append(score)
        return groups

    @cached_property
    def patients(self) -> dict[str, list[RegionScore]]:
        """Scores of each patient."""
        return self.by(lambda region: region.patient)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Figures of each "region" and "source" and, where they are known, of each "institute".

        A row has name; of a region patient, institute, source and stain (#rrggbb), of a group how
        many regions and patients it has; then pixels, accuracy, dice_mean, tumor_precision,
        tumor_recall, tumor_dice (all tumor classes merged) and the Dice of each class; NaN where
        there is no figure.
        """
        tables = {}
        for kind, field in _GROUPS.items():
            groups = self.by(attrgetter(field))
            if set(groups) != {""}:
                rows = self._rows([_total(scores) for scores in groups.values()])
                about = _of_region if kind == "region" else _of_group
                tables[kind] = [
                    {"name": name} | about(groups[name]) | row
                    for name, row in zip(groups, rows, strict=True)
                ]
        return tables

    def _rows(self, confusions: Sequence[Int64]) -> Iterator[dict[str, float]]:
        every = np.stack(confusions)
        own, tumor = figures(every, self.counted), merged(every, self._tumor_groups)
        of_tumor = figures(tumor, [True] * tumor.shape[-1])
        columns = {
            "pixels": every.sum(axis=(1, 2)),
            "accuracy": own.accuracy,
            "dice_mean": own.mean("f1"),
        }
        columns |= {
            f"tumor_{name}": getattr(of_tumor, name)[:, 0]
            for name in ("precision", "recall", "dice")
        }
        columns |= {f"dice_{info.name}": own.dice[:, k] for k, info in enumerate(self.classes)}
        for row in range(len(every)):
            yield {column: values[row].item() for column, values in columns.items()}

    @cached_property
    def units(self) -> tuple[Literal["patient", "block", "none"], Int64]:
        """What the intervals are drawn from, int64 ``[units, n, n]``: patients, or blocks where
        these are too few.
        """
        if len(self.patients) >= FEWEST_UNITS:
            return "patient", np.stack([_total(scores) for scores in self.patients.values()])
        blocks = np.concatenate([score.blocks for score in self.scores])
        blocks = blocks[blocks.any(axis=(1, 2))]
        return ("block", blocks) if len(blocks) >= FEWEST_UNITS else ("none", blocks)

    @cached_property
    def figures(self) -> Measured:
        """Of the classes as they are."""
        return self._measured(lambda confusion: confusion, self.counted)

    def merged(self, groups: Sequence[int]) -> Measured:
        """Of coarser classes, see `merged`."""
        m = max(group for group in groups if group != IGNORED) + 1
        return self._measured(lambda confusion: merged(confusion, groups), [True] * m + [False])

    @cached_property
    def tumor(self) -> Measured | None:
        """Tumor (class 0: all classes with that role) against the rest; None where the model has
        only one of them.
        """
        return self.merged(self._tumor_groups) if len(set(self._tumor_groups)) == 2 else None

    @property
    def _tumor_groups(self) -> list[int]:
        return [0 if info.role == "tumor" else 1 for info in self.classes]

    def _measured(self, change: Callable[[Int64], Int64], counted: Sequence[bool]) -> Measured:
        drawn = None if self._drawn is None else figures(change(self._drawn), counted)
        return Measured(figures(change(self.confusion), counted), drawn)

    @cached_property
    def _drawn(self) -> Int64 | None:
        unit, confusions = self.units
        return None if unit == "none" else bootstrap(confusions)


def _of_region(scores: Sequence[RegionScore]) -> dict[str, Any]:
    (score,) = scores
    fields = {name: getattr(score.region, name) for name in ("patient", "institute", "source")}
    return fields | {"stain": "#{:02x}{:02x}{:02x}".format(*score.stain)}


def _of_group(scores: Sequence[RegionScore]) -> dict[str, Any]:
    return {"regions": len(scores), "patients": len({score.region.patient for score in scores})}


def _total(scores: Iterable[RegionScore]) -> Int64:
    total: Int64 = np.sum([score.confusion for score in scores], axis=0)
    return total


def _cut(rgb: UInt8, box: Box) -> UInt8:
    """The pixels of a box, white where it reaches outside."""
    tile = np.full((box.height, box.width, 3), 255, np.uint8)
    inside = box.intersect(Box.of(Extent(*rgb.shape[:2])))
    tile[inside.slices(box)] = rgb[inside.slices()]
    return tile


def _blocks(frame: Box) -> Iterator[Box]:
    for y in range(0, frame.height, BLOCK_PX):
        for x in range(0, frame.width, BLOCK_PX):
            yield Box(y, x, BLOCK_PX, BLOCK_PX).intersect(frame)


def _confusion(targets: UInt8, labels: UInt8, n: int) -> Int64:
    known = targets != IGNORED
    pairs = targets[known].astype(np.intp) * n + labels[known]
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def _bins(targets: UInt8, labels: UInt8, confidence: Float32) -> Float64:
    """Counts of one tile, see `RegionScore`."""
    known = targets != IGNORED
    sure, right = confidence[known].astype(np.float64), labels[known] == targets[known]
    place = np.minimum((sure * N_BINS).astype(np.intp), N_BINS - 1)
    return np.stack(
        [np.bincount(place, weights, N_BINS) for weights in (None, sure, right)], axis=1
    )


def _stain(rgb: UInt8) -> tuple[int, int, int]:
    """Mean colour of what is not near white, from every fourth row and column; white if there is
    nothing.
    """
    sample = rgb[::4, ::4].reshape(-1, 3)
    tissue = sample[sample.min(axis=1) < NEAR_WHITE]
    r, g, b = (
        np.rint(tissue.mean(axis=0) if len(tissue) else sample.mean(axis=0)).astype(int).tolist()
    )
    return r, g, b
