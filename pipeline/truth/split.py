"""Which regions train, which choose the best epoch and which measure: by patient and institute,
never by tile.
"""

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
from noctile.pipeline.slides.manifest import MAX_BYTES
from noctile.pipeline.truth.region import Region, load_targets
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme
from noctile.pipeline.untrusted import read_text

Side = Literal["train", "val", "test"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)


BCSS_TEST_INSTITUTES: Final = ("OL", "LL", "E2", "EW", "GM", "S3")
"""Where the test slides of BCSS come from. (Amgad et al. 2019;
github.com/PathologyDataScience/BCSS)"""

_FEWEST_INSTITUTES = 5
"""From how many institutes on whole institutes are drawn; with fewer of them one would be most of
the data."""

_WEIGHT_RANGE = (0.2, 5.0)
"""Smallest and largest weight of a class, before the mean is brought to 1."""

_COLUMNS = ("region_id", "patient", "institute", "source", "side")


class SplitSpec(BaseModel):
    """How regions are split.

    Attributes:
        test: institutes, patients or regions (with all of their patient's); None: the official test
            institutes of BCSS where regions are of them and ``by`` is not "patient", else a draw.
        val: likewise; None: a draw from what is left.
        test_fraction: of the patients, for a draw.
        val_fraction: of the patients, for a draw; 0 for none.
        seed: of the draws.
        by: what is drawn as a whole: institutes, patients, or ("auto") institutes if there are at
            least five.
        file: a CSV as `write_split` writes it, instead of all of this.
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
    """Who is on which side.

    Attributes:
        sides: of regions, by region_id.
        patients: of patients; it places regions that have other names here than where the split was
            made.
    """

    sides: Mapping[str, Side]
    patients: Mapping[str, Side] = field(default_factory=dict)

    def side(self, region: Region) -> Side | None:
        """The side of a region, or else of its patient; None if the split knows neither."""
        return self.sides.get(region.region_id, self.patients.get(region.patient))

    def select(self, regions: Iterable[Region], side: Side) -> list[Region]:
        """The regions of a side, in their order."""
        return [region for region in regions if self.side(region) == side]


def make_split(regions: Sequence[Region], spec: SplitSpec, extras: Collection[str] = ()) -> Split:
    """Give each region a side. All regions of a patient have the same; their order changes nothing.

    Args:
        regions: of all data sources.
        spec: how.
        extras: names of the sources that are for training only; so is every patient with a region
            in one of them.

    Raises:
        UsageError: if two regions have the same id, a name of the spec fits nothing or is on two
            sides, no patient is left for a side, or the file does not fit the regions.
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
            f"split {spec.file}: {stray[0].region_id} is in {split.side(stray[0])}, but its source {stray[0].source} "
            "is for training only (extra = true)"
        )
    return split


def check_names(regions: Sequence[Region]) -> None:
    """Nothing, if each region has a name of its own.

    Raises:
        UsageError: otherwise; the message says where the first two lie.
    """
    count = Counter(region.region_id for region in regions)
    if twice := [region for region in regions if count[region.region_id] > 1]:
        places = " and ".join(
            str(region.image) for region in twice if region.region_id == twice[0].region_id
        )
        raise UsageError(
            f"two regions are called {twice[0].region_id}: {places}. Rename one, or leave its source out"
        )


def check_leakage(regions: Iterable[Region], split: Split) -> None:
    """Nothing, if each region has a side and each patient only one.

    Raises:
        UsageError: otherwise; the message names the patients and regions.
    """
    sides: dict[str, dict[Side | None, str]] = defaultdict(dict)
    for region in regions:
        sides[region.patient].setdefault(split.side(region), region.region_id)
        if region.patient in split.patients:
            sides[region.patient].setdefault(split.patients[region.patient], "another region")
    if missing := [found[None] for found in sides.values() if None in found]:
        raise UsageError(
            f"the split has no side for {len(missing)} patients, such as that of {missing[0]}; add them"
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
    """Write a split as CSV, a row a region, sorted."""
    rows = [
        (*map(escape_cell, (r.region_id, r.patient, r.institute, r.source)), split.side(r))
        for r in sorted(regions, key=lambda r: r.region_id)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])


def read_split(path: Path) -> Split:
    """A split from a CSV with at least the columns region_id, patient and side.

    Raises:
        UsageError: if the file cannot be read, has other columns, names a side that is none, or
            puts a region or a patient on two.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES, "utf-8-sig"), newline=""))
        columns = reader.fieldnames or ()
        rows = [{name: unescape_cell(row[name] or "") for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"split {path} cannot be read: {error}") from error
    if not {"region_id", "patient", "side"} <= set(columns):
        raise UsageError(
            f"split {path} has the columns {list(columns)!s:.500}; region_id, patient and side are needed"
        )
    sides: dict[str, Side] = {}
    patients: dict[str, Side] = {}
    for line, row in enumerate(rows, start=2):
        side = next((side for side in SIDES if side == row["side"]), None)
        if side is None:
            raise UsageError(
                f"split {path}, line {line}: side {row['side']!r}; it is one of {', '.join(SIDES)}"
            )
        for known, name in ((sides, row["region_id"]), (patients, row["patient"])):
            if known.setdefault(name, side) != side:
                raise UsageError(
                    f"split {path}, line {line}: {name} is in {side}, and in {known[name]} above"
                )
    return Split(sides, patients)


def class_pixels(regions: Sequence[Region], split: Split, scheme: ClassScheme, mpp: float) -> Int64:
    """Pixels of each class on each side at ``mpp`` (um), one region in memory at a time.

    Returns:
        int64 ``[3, n_classes]``, rows as `SIDES`; ignored pixels are in no sum.

    Raises:
        UsageError: if a region's truth cannot be read, see `load_region`.
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
    """How much a pixel of each class counts in the loss, so that rare classes are not drowned.

    The square root of median frequency balancing (Eigen and Fergus 2015, doi
    10.1109/ICCV.2015.304), limited to `_WEIGHT_RANGE`: the root and the limits keep a class of a
    few hundred pixels from ruling the loss.

    Args:
        counts: training pixels of each class, int64 ``[n_classes]``.

    Returns:
        float64 ``[n_classes]``, mean 1 over the classes that occur; a class without a pixel has 0.
    """
    weights = np.zeros(len(counts))
    occurs = counts > 0
    if occurs.any():
        found = counts[occurs]
        limited = np.clip(np.sqrt(np.median(found) / found), *_WEIGHT_RANGE)
        weights[occurs] = limited / limited.mean()
    return weights


def check_classes(counts: Int64, scheme: ClassScheme) -> None:
    """Nothing, if there is something to learn of each class.

    Args:
        counts: training pixels of each class, int64 ``[n_classes]``.
        scheme: whose classes they are.

    Raises:
        UsageError: if a class has no training pixel.
    """
    if empty := [
        info.name for info, count in zip(scheme.classes, counts, strict=True) if not count
    ]:
        raise UsageError(
            f"no training pixel of {len(empty)} of {len(counts)} classes of scheme {scheme.name}: {', '.join(empty)}. "
            "Add regions that have them, choose a coarser scheme (--classes bcss5 or tumor) or split otherwise"
        )


@dataclass(frozen=True, slots=True)
class _Patients:
    """What a split is made of.

    Attributes:
        institute_of: each patient that may go to any side, and its institute ("" where unknown).
        names: institutes, patients and regions, each with its patients, also of those that only
            train.
    """

    institute_of: dict[str, str]
    names: dict[str, set[str]]

    @classmethod
    def of(cls, regions: Sequence[Region], extras: Collection[str]) -> "_Patients":
        fixed = {region.patient for region in regions if region.source in extras}
        names: dict[str, set[str]] = defaultdict(set)
        for region in regions:
            for name in {region.institute, region.patient, region.region_id} - {""}:
                names[name].add(region.patient)
        free = sorted({(r.patient, r.institute) for r in regions if r.patient not in fixed})
        return cls(dict(free), names)

    def named(self, side: Side, names: Iterable[str]) -> set[str]:
        """The patients that a spec names."""
        chosen: set[str] = set()
        for name in names:
            patients = self.names.get(name)
            if not patients:
                raise UsageError(
                    f"split: {side} names {name!r}, which is no institute, patient or region; known are "
                    f"{', '.join(sorted(self.names)[:24])}"
                )
            if bound := sorted(patients - self.institute_of.keys()):
                raise UsageError(
                    f"split: {side} names {name!r}, but a source for training only has {', '.join(bound)}"
                )
            chosen |= patients
        return chosen

    def drawn(
        self, side: Side, taken: Collection[str], fraction: float, spec: SplitSpec
    ) -> set[str]:
        """About ``fraction`` of all patients, out of those that are not taken, in whole groups and
        at least one.

        Groups come in an order that depends on the seed and on their names only, so that further
        regions hardly change it; one that would lead away from the share is passed over, and one is
        always left.
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
                f"split: no patient is left for {side}: of {len(self.institute_of)} patients {len(taken)} are taken, "
                f"and training needs one. Name the {side} regions yourself, or none ({side} = [])"
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
    """The side of each patient."""
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
            f"split: {', '.join(both[:8])} would be in test and in val; name them for one of them"
        )
    sides: dict[str, Side] = dict.fromkeys(sorted(set().union(*patients.names.values())), "train")
    sides |= dict.fromkeys(val, "val")
    sides |= dict.fromkeys(test, "test")
    if "train" not in sides.values():
        raise UsageError(
            f"split: no patient is left for training: {len(test)} are in test and {len(val)} in val. Name fewer, "
            f"or, if all are of BCSS's test institutes ({', '.join(BCSS_TEST_INSTITUTES)}), say by = 'patient'"
        )
    return sides
