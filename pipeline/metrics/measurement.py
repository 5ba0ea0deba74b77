"""Measurement of a model on a set of regions: totals, tables, and metrics with intervals."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, Literal

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.metrics.calibration import Calibration, calibration_from_bins
from noctile.pipeline.metrics.class_metrics import class_metrics
from noctile.pipeline.metrics.confusion import merge_classes, number_of_groups
from noctile.pipeline.metrics.intervals import Estimates, bootstrap
from noctile.pipeline.metrics.region_counts import RegionCounts
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.truth.region import Region

MIN_UNITS: Final = 3
"""Smallest number of patients for a bootstrap by patient, and of blocks for one by block."""

_TABLES = {"region": "region_id", "institute": "institute", "source": "source"}
"""Name of each table, and the field of a region by which its rows are grouped."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement of a model on a set of regions.

    Attributes:
        classes: classes of the confusion matrices.
        regions: pixel counts of each region.
    """

    classes: tuple[ClassInfo, ...]
    regions: tuple[RegionCounts, ...]

    @property
    def counted(self) -> list[bool]:
        """For each class, true if it is in the means over classes."""
        return [info.role != "ignore" for info in self.classes]

    @cached_property
    def confusion(self) -> Int64:
        """Confusion matrix of all pixels, int64 ``[n, n]``."""
        return _total(self.regions)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration over all pixels."""
        return calibration_from_bins(np.sum([counts.bins for counts in self.regions], axis=0))

    def group_by(self, key: Callable[[Region], str]) -> dict[str, list[RegionCounts]]:
        """Counts of groups of regions, sorted by the key of each group."""
        groups: dict[str, list[RegionCounts]] = {
            name: [] for name in sorted({key(counts.region) for counts in self.regions})
        }
        for counts in self.regions:
            groups[key(counts.region)].append(counts)
        return groups

    @cached_property
    def patients(self) -> dict[str, list[RegionCounts]]:
        """Counts of each patient's regions."""
        return self.group_by(lambda region: region.patient)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Metrics of each "region" and "source" and, where they are known, of each "institute".

        Each row has a name. A region's row has patient, institute, source and stain (#rrggbb). A
        group's row has the number of its regions and patients. All rows then have pixels, accuracy,
        dice_mean, tumor_precision, tumor_recall, tumor_dice (all tumor classes merged) and the Dice
        of each class; NaN where there is no figure.
        """
        tables = {}
        for kind, field in _TABLES.items():
            groups = self.group_by(attrgetter(field))
            if set(groups) != {""}:
                rows = self._rows([_total(regions) for regions in groups.values()])
                describe = _describe_region if kind == "region" else _describe_group
                tables[kind] = [
                    {"name": name} | describe(groups[name]) | row
                    for name, row in zip(groups, rows, strict=True)
                ]
        return tables

    @cached_property
    def units(self) -> tuple[Literal["patient", "block", "none"], Int64]:
        """Units from which the bootstrap draws: patients, or blocks if there are too few patients.

        Returns:
            Kind of the units, and the confusion matrix of each, int64 ``[units, n, n]``.
        """
        if len(self.patients) >= MIN_UNITS:
            return "patient", np.stack([_total(regions) for regions in self.patients.values()])
        blocks = np.concatenate([counts.blocks for counts in self.regions])
        blocks = blocks[blocks.any(axis=(1, 2))]
        return ("block", blocks) if len(blocks) >= MIN_UNITS else ("none", blocks)

    @cached_property
    def estimates(self) -> Estimates:
        """Metrics of the classes as they are."""
        return self._estimates(lambda confusion: confusion, self.counted)

    def merged_estimates(self, groups: Sequence[int]) -> Estimates:
        """Metrics of coarser classes, see `merge_classes`."""
        counted = [True] * number_of_groups(groups) + [False]
        return self._estimates(lambda confusion: merge_classes(confusion, groups), counted)

    @cached_property
    def tumor(self) -> Estimates | None:
        """Metrics of tumor (class 0: all classes with that role) against all other classes.

        None if the model has only one of the two.
        """
        groups = self._tumor_groups
        return self.merged_estimates(groups) if len(set(groups)) == 2 else None

    @property
    def _tumor_groups(self) -> list[int]:
        return [0 if info.role == "tumor" else 1 for info in self.classes]

    @cached_property
    def _drawn(self) -> Int64 | None:
        unit, confusions = self.units
        return None if unit == "none" else bootstrap(confusions)

    def _estimates(self, merge: Callable[[Int64], Int64], counted: Sequence[bool]) -> Estimates:
        drawn = None if self._drawn is None else class_metrics(merge(self._drawn), counted)
        return Estimates(class_metrics(merge(self.confusion), counted), drawn)

    def _rows(self, confusions: Sequence[Int64]) -> Iterator[dict[str, float]]:
        """The metrics in a table's rows, one row for each confusion matrix."""
        every = np.stack(confusions)
        own, tumor = class_metrics(every, self.counted), merge_classes(every, self._tumor_groups)
        of_tumor = class_metrics(tumor, [True] * tumor.shape[-1])
        columns = {
            "pixels": every.sum(axis=(1, 2)),
            "accuracy": own.accuracy,
            "dice_mean": own.mean("f1"),
            "tumor_precision": of_tumor.precision[:, 0],
            "tumor_recall": of_tumor.recall[:, 0],
            "tumor_dice": of_tumor.dice[:, 0],
        }
        columns |= {f"dice_{info.name}": own.dice[:, k] for k, info in enumerate(self.classes)}
        for row in range(len(every)):
            yield {column: values[row].item() for column, values in columns.items()}


def _describe_region(regions: Sequence[RegionCounts]) -> dict[str, Any]:
    (counts,) = regions
    fields = {name: getattr(counts.region, name) for name in ("patient", "institute", "source")}
    return fields | {"stain": "#{:02x}{:02x}{:02x}".format(*counts.stain)}


def _describe_group(regions: Sequence[RegionCounts]) -> dict[str, Any]:
    patients = {counts.region.patient for counts in regions}
    return {"regions": len(regions), "patients": len(patients)}


def _total(regions: Iterable[RegionCounts]) -> Int64:
    """Confusion matrix of all pixels of some regions."""
    total: Int64 = np.sum([counts.confusion for counts in regions], axis=0)
    return total
