"""Split of regions into training, validation and test, by patient and institute, never by tile."""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.csv_cells import escape_cell, unescape_cell
from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.table_file import MAX_BYTES
from noctile.pipeline.truth.region import Region, load_targets
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme
from noctile.pipeline.untrusted import read_text

Side = Literal["train", "val", "test"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)


BCSS_TEST_INSTITUTES: Final = ("OL", "LL", "E2", "EW", "GM", "S3")
"""Institutes of the official test slides of BCSS. (Amgad et al. 2019;
github.com/PathologyDataScience/BCSS)"""

_FEWEST_INSTITUTES = 5
"""Smallest number of institutes for a draw of whole institutes; with fewer, one institute would be
most of the data."""

_WEIGHT_RANGE = (0.2, 5.0)
"""Smallest and largest weight of a class, before the weights are scaled to mean 1."""

_COLUMNS = ("region_id", "patient", "institute", "source", "side")


class SplitSpec(BaseModel):
    """Settings of a split.

    Attributes:
        test: institutes, patients or regions of the test side; a region stands for all regions of
            its patient. None: the official test institutes of BCSS if there are regions of them
            and ``by`` is not "patient", else a random draw.
        val: institutes, patients or regions of the validation side; None: a random draw from the
            rest.
        test_fraction: share of the patients that is drawn for test.
        val_fraction: share of the patients that is drawn for validation; 0 for none.
        seed: seed of the draws.
        by: units of a draw: institutes, patients, or "auto": institutes if there are at least five.
        file: CSV of `write_split` that replaces all other settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: tuple[str, ...] | None = None
    val: tuple[str, ...] | None = None
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.15
    seed: int = 0
    by: Literal["auto", "institute", "patient"] = "auto"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Side of each region and patient.

    Attributes:
        sides: side of each region, by its region_id.
        patients: side of each patient, for regions whose names the split does not have.
    """

    sides: Mapping[str, Side]
    patients: Mapping[str, Side] = field(default_factory=dict)

    def side(self, region: Region) -> Side | None:
        """Side of a region, or else of its patient; None if the split has neither."""
        return self.sides.get(region.region_id, self.patients.get(region.patient))

    def select(self, regions: Iterable[Region], side: Side) -> list[Region]:
        """Regions of a side, in the given order."""
        return [region for region in regions if self.side(region) == side]


def make_split(regions: Sequence[Region], spec: SplitSpec, extras: Collection[str] = ()) -> Split:
    """Give each region a side.

    All regions of a patient have the same side. The order of the regions changes nothing.

    Args:
        regions: regions of all data sources.
        spec: settings of the split.
        extras: names of the sources that only train; a patient with a region in one of them only
            trains, too.

    Raises:
        UsageError: if two regions have the same id, a name in the settings is not known or is on
            two sides, no patient is left for a side, or the file does not fit the regions.
    """
    check_names(regions)
    if spec.file:
        split = read_split(spec.file)
    else:
        patients = _sides(_Patients.of(regions, extras), spec)
        split = Split({region.region_id: patients[region.patient] for region in regions}, patients)
    check_leakage(regions, split)
    if stray := [r for r in regions if r.source in extras and split.side(r) != "train"]:
        raise UsageError(
            f"split {spec.file}: {stray[0].region_id} is in {split.side(stray[0])}, but its source "
            f"{stray[0].source} is for training only (extra = true). Move it to train"
        )
    return split


def check_names(regions: Sequence[Region]) -> None:
    """Check that each region has a name of its own.

    Raises:
        UsageError: if two regions have the same name; the message has the paths of both.
    """
    count = Counter(region.region_id for region in regions)
    if twice := [region for region in regions if count[region.region_id] > 1]:
        paths = " and ".join(
            str(region.image) for region in twice if region.region_id == twice[0].region_id
        )
        raise UsageError(
            f"two regions are called {twice[0].region_id}: {paths}. Rename one, or leave its "
            "source out"
        )


def check_leakage(regions: Iterable[Region], split: Split) -> None:
    """Check that each region has a side, and each patient only one.

    Raises:
        UsageError: if this is not so; the message names the patients and regions.
    """
    sides: dict[str, dict[Side | None, str]] = defaultdict(dict)
    for region in regions:
        sides[region.patient].setdefault(split.side(region), region.region_id)
        if region.patient in split.patients:
            sides[region.patient].setdefault(split.patients[region.patient], "another region")
    if missing := [found[None] for found in sides.values() if None in found]:
        raise UsageError(
            f"the split has no side for {len(missing)} patients, such as that of {missing[0]}. Add "
            "them"
        )
    if leaks := {patient: found for patient, found in sorted(sides.items()) if len(found) > 1}:
        lines = [
            f"  {patient}: "
            + ", ".join(f"{region_id} in {side}" for side, region_id in found.items())
            for patient, found in list(leaks.items())[:8]
        ]
        raise UsageError(
            "\n".join(
                [
                    f"the split leaks: {len(leaks)} patients are on two sides",
                    *lines,
                    "Put each on one side",
                ]
            )
        )


def write_split(path: Path, regions: Iterable[Region], split: Split) -> None:
    """Write a split as CSV, with one row for each region, sorted by region_id."""
    rows = [
        (*map(escape_cell, (r.region_id, r.patient, r.institute, r.source)), split.side(r))
        for r in sorted(regions, key=lambda r: r.region_id)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])


def read_split(path: Path) -> Split:
    """Read a split from a CSV with at least the columns region_id, patient and side.

    Raises:
        UsageError: if the file cannot be read, has other columns or an unknown side, or has a
            region or a patient on two sides.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES, "utf-8-sig"), newline=""))
        columns = reader.fieldnames or ()
        rows = [{name: unescape_cell(row[name] or "") for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"split {path} cannot be read: {error}") from error
    if not {"region_id", "patient", "side"} <= set(columns):
        raise UsageError(
            f"split {path} has the columns {list(columns)!s:.500}; region_id, patient and side are "
            "needed"
        )
    sides: dict[str, Side] = {}
    patients: dict[str, Side] = {}
    for line, row in enumerate(rows, start=2):
        side = next((side for side in SIDES if side == row["side"]), None)
        if side is None:
            raise UsageError(
                f"split {path}, line {line}: side {row['side']!r} is none of {', '.join(SIDES)}"
            )
        for known, name in ((sides, row["region_id"]), (patients, row["patient"])):
            if known.setdefault(name, side) != side:
                raise UsageError(
                    f"split {path}, line {line}: {name} is in {side}, and in {known[name]} above"
                )
    return Split(sides, patients)


def class_pixels(regions: Sequence[Region], split: Split, scheme: ClassScheme, mpp: float) -> Int64:
    """Count the pixels of each class on each side, one region in memory at a time.

    Args:
        regions: regions of all sides.
        split: side of each region.
        scheme: class scheme of the counts.
        mpp: pixel size at which pixels are counted (um).

    Returns:
        int64 ``[3, n_classes]``, rows as `SIDES`; ignored pixels are not counted.

    Raises:
        UsageError: if a region's classes cannot be read, see `load_region`.
    """
    counts = np.zeros((len(SIDES), len(scheme.classes)), np.int64)
    for row, side in enumerate(SIDES):
        for region in split.select(regions, side):
            of_values = np.bincount(
                load_targets(region, scheme, mpp).ravel(), minlength=IGNORED + 1
            )
            counts[row] += of_values[: len(scheme.classes)]
    return counts


def class_weights(counts: Int64) -> Float64:
    """Weight of each class in the loss; rare classes have larger weights.

    The weight is the square root of median frequency balancing (Eigen and Fergus 2015, doi
    10.1109/ICCV.2015.304), limited to `_WEIGHT_RANGE`. Without the root and the limits, a class of
    a few hundred pixels could dominate the loss.

    Args:
        counts: training pixels of each class, int64 ``[n_classes]``.

    Returns:
        float64 ``[n_classes]`` with mean 1 over the classes that occur; 0 for a class without a
        pixel.
    """
    weights = np.zeros(len(counts))
    occurs = counts > 0
    if occurs.any():
        found = counts[occurs]
        limited = np.clip(np.sqrt(np.median(found) / found), *_WEIGHT_RANGE)
        weights[occurs] = limited / limited.mean()
    return weights


def check_classes(counts: Int64, scheme: ClassScheme) -> None:
    """Check that each class has training pixels.

    Args:
        counts: training pixels of each class, int64 ``[n_classes]``.
        scheme: class scheme of the counts.

    Raises:
        UsageError: if a class has no training pixel.
    """
    if empty := [
        info.name for info, count in zip(scheme.classes, counts, strict=True) if not count
    ]:
        raise UsageError(
            f"{len(empty)} of {len(counts)} classes of scheme {scheme.name} have no training "
            f"pixel: {', '.join(empty)}. Add regions that have them, choose a coarser scheme "
            "(--classes bcss5 or tumor) or another split"
        )


@dataclass(frozen=True, slots=True)
class _Patients:
    """Patients that a split places, and the names by which settings may call them.

    Attributes:
        institute_of: institute of each patient that may go to any side; "" if it is not known.
        names: patients of each institute, patient and region, those that only train included.
    """

    institute_of: dict[str, str]
    names: dict[str, set[str]]

    @classmethod
    def of(cls, regions: Sequence[Region], extras: Collection[str]) -> "_Patients":
        """Patients of some regions; those with a region in an extra source only train."""
        fixed = {region.patient for region in regions if region.source in extras}
        names: dict[str, set[str]] = defaultdict(set)
        for region in regions:
            for name in {region.institute, region.patient, region.region_id} - {""}:
                names[name].add(region.patient)
        free = sorted({(r.patient, r.institute) for r in regions if r.patient not in fixed})
        return cls(dict(free), names)

    def named(self, side: Side, names: Iterable[str]) -> set[str]:
        """Patients that the settings name for a side."""
        chosen: set[str] = set()
        for name in names:
            patients = self.names.get(name)
            if not patients:
                raise UsageError(
                    f"split: {side} names {name!r}, which is no institute, patient or region; "
                    f"known are {', '.join(sorted(self.names)[:24])}"
                )
            if bound := sorted(patients - self.institute_of.keys()):
                raise UsageError(
                    f"split: {side} names {name!r}, but {', '.join(bound)} has regions in a source "
                    "for training only"
                )
            chosen |= patients
        return chosen

    def drawn(
        self, side: Side, taken: Collection[str], fraction: float, spec: SplitSpec
    ) -> set[str]:
        """Draw about a fraction of all patients, in whole groups.

        The order of the groups depends only on the seed and on their names, so that additional
        regions hardly change it. A group that would lead away from the fraction is skipped. At
        least one group is drawn, and at least one is left.

        Args:
            side: side for which patients are drawn.
            taken: patients that cannot be drawn.
            fraction: share of all patients.
            spec: settings of the split.
        """
        wanted = round(fraction * len(self.institute_of)) or 1
        groups: dict[str, set[str]] = defaultdict(set)
        by_institute = spec.by == "institute" or (
            spec.by == "auto" and len(set(self.institute_of.values()) - {""}) >= _FEWEST_INSTITUTES
        )
        for patient in self.institute_of.keys() - set(taken):
            groups[(by_institute and self.institute_of[patient]) or patient].add(patient)
        if len(groups) < 2:
            raise UsageError(
                f"split: no patient is left for {side}: {len(taken)} of {len(self.institute_of)} "
                f"patients are taken, and training needs one. Name the {side} regions yourself, or "
                f"none ({side} = [])"
            )
        order = sorted(
            groups, key=lambda name: hashlib.sha256(f"{spec.seed}/{side}/{name}".encode()).digest()
        )
        chosen: set[str] = set()
        for name in order[:-1]:
            if abs(len(chosen | groups[name]) - wanted) < abs(len(chosen) - wanted):
                chosen |= groups[name]
        return chosen or min((groups[name] for name in order), key=len)


def _sides(patients: _Patients, spec: SplitSpec) -> dict[str, Side]:
    """Side of each patient."""
    official = {
        patient
        for patient, institute in patients.institute_of.items()
        if institute in BCSS_TEST_INSTITUTES
    }
    if spec.test is not None:
        test = patients.named("test", spec.test)
    elif official and spec.by != "patient":
        test = official
    else:
        test = patients.drawn("test", (), spec.test_fraction, spec) if spec.test_fraction else set()
    if spec.val is not None:
        val = patients.named("val", spec.val)
    else:
        val = patients.drawn("val", test, spec.val_fraction, spec) if spec.val_fraction else set()
    if both := sorted(test & val):
        raise UsageError(
            f"split: {', '.join(both[:8])} would be in test and in val. Name them for one side only"
        )
    sides: dict[str, Side] = dict.fromkeys(sorted(set().union(*patients.names.values())), "train")
    sides |= dict.fromkeys(val, "val")
    sides |= dict.fromkeys(test, "test")
    if "train" not in sides.values():
        raise UsageError(
            f"split: no patient is left for training: {len(test)} are in test and {len(val)} in "
            "val. Name fewer, or, if all are of BCSS's test institutes "
            f"({', '.join(BCSS_TEST_INSTITUTES)}), set by = 'patient'"
        )
    return sides
