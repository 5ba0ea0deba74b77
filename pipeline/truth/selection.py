"""Regions on which a model is measured, chosen by the split of its training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.region import Region
from noctile.pipeline.truth.split import BCSS_TEST_INSTITUTES, Split, read_split

SideChoice = Literal["train", "val", "test", "all"]

_UNKNOWN_TRAINING = (
    "Nothing in the model's folder says what it was trained on: it may have seen these regions"
)
_UNLISTED = "not listed"
_NOT_A_TEST = {
    "train": "The model was trained on these regions",
    "val": "These regions chose the model's weights",
}
"""Notes about sides whose figures are no test."""


@dataclass(frozen=True, slots=True)
class ChosenRegions:
    """Regions on which a model is measured.

    Attributes:
        regions: the regions, sorted by region_id.
        description: the choice in words, for the report.
        notes: warnings about the choice, for the reader of the report.
    """

    regions: Sequence[Region]
    description: str
    notes: tuple[str, ...]


def choose_regions(regions: Sequence[Region], split_file: Path, side: SideChoice) -> ChosenRegions:
    """Choose the regions of a side, as the split of the model's training has them.

    A region that the split does not list is on the side of its patient. The data may be another
    data set than the model's: the split lists none of the regions, or there is no split. Then
    ``test`` takes all regions of patients that are not in the split. Without a split, and with
    regions of BCSS's official test institutes, it takes only those.

    Args:
        regions: regions of the data.
        split_file: split.csv of the model; need not exist.
        side: train, val, test or all.

    Raises:
        UsageError: if no region is on the side, or a region on the test side is of a patient on
            whom the model was trained.
    """
    regions = sorted(regions, key=lambda region: region.region_id)
    split = read_split(split_file) if split_file.is_file() else Split({})
    sides: Counter[str] = Counter(split.side(region) or _UNLISTED for region in regions)
    notes: tuple[str, ...] = () if split.sides else (_UNKNOWN_TRAINING,)
    if side == "all":
        return _all_regions(regions, split, sides, notes)
    chosen = split.select(regions, side)
    description = f"side {side} of the model's own split by patient"
    listed = any(region.region_id in split.sides for region in regions)
    if side == "test" and not chosen and not listed:
        description, chosen = _unseen_regions(regions, split)
        sides[_UNLISTED] -= len(chosen)
    if not chosen:
        raise UsageError(
            f"no region is on side {side} of the model's split ({split_file}): of {len(regions)} "
            f"there are {_format_counts(sides)}. Choose another --split, or data that the model "
            "has not seen: figures of regions that trained it say nothing about others"
        )
    if side == "test":
        _check_unseen(chosen, split, split_file)
    if split.sides and sides[_UNLISTED]:
        notes += (f"{sides[_UNLISTED]} regions that the model's split does not list are left out",)
    if side in _NOT_A_TEST:
        notes += (_NOT_A_TEST[side],)
    return ChosenRegions(chosen, f"{description}: {_describe_regions(chosen)}", notes)


def _all_regions(
    regions: Sequence[Region], split: Split, sides: Mapping[str, int], notes: tuple[str, ...]
) -> ChosenRegions:
    """All regions, with a note if the model has seen some of them."""
    seen = sides["train"] + sides["val"]
    if seen:
        notes += (
            f"{seen} of these regions trained the model or chose its weights: this is no test",
        )
    listed = f"; in the model's own split: {_format_counts(sides)}" if split.sides else ""
    description = f"all regions of the data: {_describe_regions(regions)}{listed}"
    return ChosenRegions(regions, description, notes)


def _unseen_regions(regions: Sequence[Region], split: Split) -> tuple[str, list[Region]]:
    """The test side of a data set that the model's split does not list, and its description."""
    official = [region for region in regions if region.institute in BCSS_TEST_INSTITUTES]
    if official and not split.sides:
        return "the official test institutes of BCSS", official
    return "all regions of patients whom the model's split does not list", [
        region for region in regions if not split.side(region)
    ]


def _check_unseen(chosen: Sequence[Region], split: Split, split_file: Path) -> None:
    """Check that the split has no patient of the test regions on another side."""
    leaks = [region for region in chosen if split.patients.get(region.patient, "test") != "test"]
    if leaks:
        patient = leaks[0].patient
        raise UsageError(
            f"{leaks[0].region_id} is listed as test in {split_file}, but it is of patient "
            f"{patient}, whose other regions are in {split.patients[patient]} ({len(leaks)} "
            "regions leak). Leave them out, or train again with a split by patient"
        )


def _describe_regions(regions: Sequence[Region]) -> str:
    """Number of regions and patients, with their sources and institutes."""
    sources, institutes = (
        sorted({getattr(region, name) for region in regions} - {""})
        for name in ("source", "institute")
    )
    origin = f" ({', '.join(institutes)})" if institutes else ""
    patients = len({region.patient for region in regions})
    return f"{len(regions)} regions of {patients} patients in {', '.join(sources)}{origin}"


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
