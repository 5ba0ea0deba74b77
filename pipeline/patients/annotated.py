"""Shares of classes by patients whose slides people annotated in full, beside those of the model.

Predictions are known for all patients, the truth for some of them. Means and differences of groups
come from prediction-powered inference, see `noctile.pipeline.audit.ppi`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.audit.ppi import (
    LEAST_ANNOTATED,
    PoweredDifference,
    PoweredMean,
    joined_mean,
    powered_difference,
    powered_mean,
)
from noctile.pipeline.patients.analysis import Analysis
from noctile.pipeline.patients.join import Patient
from noctile.pipeline.patients.question import sorted_groups
from noctile.pipeline.patients.share_difference import ShareDifference, share_differences
from noctile.pipeline.statistics.groups import MIN_GROUP

IN_FULL: Final = 0.99
"""Smallest covered part of the analysed pixels of a slide that is annotated in full. A rule."""

MANY: Final = 10
"""Annotated patients with a class from which on its interval is long enough, if others lack it.

Measured (benchmarks/history/audit.md, patients annotated in full)."""

Status = Literal["used", "in_part", "patient_in_part", "not_counted"]


@dataclass(frozen=True, slots=True, eq=False)
class SlideTruth:
    """True areas of a slide, from its annotations.

    Attributes:
        file: name of the file with the annotations.
        covered: part of the analysed pixels that the annotations cover, 0..1.
        true_mm2: float64 ``[classes]``, covered area of each true class (mm2).
    """

    file: str
    covered: float
    true_mm2: Float64

    @property
    def in_full(self) -> bool:
        """True if the slide is annotated in full."""
        return self.covered >= IN_FULL


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Annotations of the slides of a question, and the areas that the model predicts.

    Attributes:
        classes: names of the classes of the model.
        predicted_mm2: float64 ``[classes]`` by slide_id: predicted areas of each slide that counts
            (mm2), without regions that reviewers left out.
        slides: true areas of the annotated slides that count, by slide_id.
        not_counted: slide_id and reason why the slide does not count, by the name of a file.
    """

    classes: tuple[str, ...]
    predicted_mm2: Mapping[str, Float64]
    slides: Mapping[str, SlideTruth]
    not_counted: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedSlide:
    """Use of one file with annotations.

    Attributes:
        slide_id: id of the slide.
        patient_id: patient of the slide; "" if the slide does not count.
        file: name of the file.
        status: used; in_part: less than `IN_FULL` of the slide is covered; patient_in_part: the
            slide is annotated in full, and another slide of the patient is not; not_counted: the
            slide is no part of the question.
        reason: code of the reason why the slide does not count; "" if it does.
        covered: part of the analysed pixels that is covered, 0..1; NaN if the slide does not count.
        predicted_mm2: float64 ``[classes]``, predicted areas (mm2); empty if it does not count.
        true_mm2: float64 ``[classes]``, covered area of each true class (mm2); empty as well.
    """

    slide_id: str
    patient_id: str
    file: str
    status: Status
    reason: str
    covered: float
    predicted_mm2: Float64
    true_mm2: Float64


@dataclass(frozen=True, slots=True)
class ClassShare:
    """Mean share of a class in the analysed area of a patient.

    Attributes:
        group: name of the group; None for all patients.
        name: name of the class.
        found: the mean.
        with_class: number of annotated patients who have the class.
    """

    group: str | None
    name: str
    found: PoweredMean
    with_class: int

    @property
    def rare(self) -> bool:
        """True if the class is so rare that the interval, if there is one, may be too short."""
        is_rare = self.with_class < min(MANY, self.found.annotated)
        return is_rare and not math.isnan(self.found.mean.low)


@dataclass(frozen=True, slots=True)
class Annotated:
    """Shares of classes by patients who are annotated in full.

    Attributes:
        classes: names of the classes.
        patients: number of patients with an analysed area.
        annotated: number of them who are annotated in full.
        shares: mean share of each class, by group and of all patients.
        differences: comparisons of groups.
        few: groups without figures: name, annotated patients and patients of each.
        slides: use of each file, sorted by slide_id.
        problem: reason why there are no figures; "" if there are some.
    """

    classes: tuple[str, ...]
    patients: int
    annotated: int
    shares: tuple[ClassShare, ...]
    differences: tuple[ShareDifference[PoweredDifference], ...]
    few: tuple[tuple[str, int, int], ...]
    slides: tuple[AnnotatedSlide, ...]
    problem: str = ""

    @property
    def unused(self) -> tuple[AnnotatedSlide, ...]:
        """Files that no figure uses."""
        return tuple(slide for slide in self.slides if slide.status != "used")


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """Share of each class in the analysed area of patients, float64 ``[patients, classes]``.

    Attributes:
        predicted: shares that the model predicts.
        true: true shares; NaN for patients who are not annotated in full.
        groups: group of each patient, str ``[patients]``; "" for all without groups.
    """

    predicted: Float64
    true: Float64
    groups: np.ndarray

    @property
    def known(self) -> Bool:
        """True for each patient who is annotated in full."""
        return np.asarray(np.isfinite(self.true).all(axis=1), np.bool_)


def why_unused(slide: AnnotatedSlide) -> str:
    """Reason why no figure uses a file, for a reader."""
    if slide.status == "not_counted":
        return f"the slide does not count ({slide.reason})"
    covered = math.floor(1000 * slide.covered) / 10
    if slide.status == "in_part":
        return f"{covered} % of the slide is annotated, and {100 * IN_FULL:g} % is needed"
    return f"another slide of patient {slide.patient_id} is not annotated in full"


def annotated(analysis: Analysis, truth: Truth) -> Annotated:
    """Estimate the shares of classes from predictions for all and the truth for some patients.

    A patient is annotated in full if all slides that count, and have an analysed area, are.

    Args:
        analysis: the analysis.
        truth: annotations, and predicted areas of all slides that count.
    """
    slides = _slides(analysis.values.patients, truth)
    shares = _shares(analysis, truth)
    names = sorted_groups(shares.groups)
    counts = [(name, *_counts(shares, shares.groups == name)) for name in names]
    patients, known = len(shares.known), int(shares.known.sum())
    few = tuple(count for count in counts if count[1] < LEAST_ANNOTATED)
    if len(few) == len(names):
        problem = (
            f"{known} of {patients} patients are annotated in full; {LEAST_ANNOTATED} are needed"
            + (" in a group" if names != [""] else "")
        )
        return Annotated(truth.classes, patients, known, (), (), few, slides, problem)
    found = _class_shares(shares, truth.classes, names)
    differences = share_differences(_differences(shares, truth.classes, names))
    return Annotated(truth.classes, patients, known, found, differences, few, slides)


def _slides(patients: Sequence[Patient], truth: Truth) -> tuple[AnnotatedSlide, ...]:
    none = np.zeros(0)
    rows = [
        AnnotatedSlide(slide_id, "", file, "not_counted", reason, np.nan, none, none)
        for file, (slide_id, reason) in truth.not_counted.items()
    ]
    for patient in patients:
        in_full = _in_full(patient, truth)
        for slide in patient.analysed:
            found = truth.slides.get(slide.slide_id)
            if found is None:
                continue
            status: Status = "used" if in_full else "patient_in_part"
            status = status if found.in_full else "in_part"
            areas = truth.predicted_mm2[slide.slide_id], found.true_mm2
            about = slide.slide_id, patient.patient_id, found.file
            rows.append(AnnotatedSlide(*about, status, "", found.covered, *areas))
    return tuple(sorted(rows, key=lambda row: (row.slide_id, row.file)))


def _in_full(patient: Patient, truth: Truth) -> bool:
    """Tell if all slides of a patient that have an analysed area are annotated in full."""
    slides = [s.slide_id for s in patient.analysed if truth.predicted_mm2[s.slide_id].any()]
    return all(name in truth.slides and truth.slides[name].in_full for name in slides)


def _shares(analysis: Analysis, truth: Truth) -> _Shares:
    """Shares of all patients with an analysed area."""
    predicted, true, groups = [], [], []
    unknown = np.full(len(truth.classes), np.nan)
    own_groups = analysis.groups if analysis.question.kind == "groups" else ()
    for k, patient in enumerate(analysis.values.patients):
        ids = [slide.slide_id for slide in patient.analysed]
        area = np.sum([truth.predicted_mm2[name] for name in ids], axis=0)
        if not area.sum() > 0:
            continue
        found = [truth.slides[name].true_mm2 for name in ids if name in truth.slides]
        true_area = np.sum(found, axis=0) if _in_full(patient, truth) else unknown
        predicted.append(area / area.sum())
        true.append(true_area / true_area.sum())
        groups.append(own_groups[k] if own_groups else "")
    shape = len(groups), len(truth.classes)
    return _Shares(
        np.array(predicted).reshape(shape), np.array(true).reshape(shape), np.array(groups, str)
    )


def _counts(shares: _Shares, there: Bool) -> tuple[int, int]:
    """Number of annotated patients, and of all patients, of a part of them."""
    return int((shares.known & there).sum()), int(there.sum())


def _class_shares(
    shares: _Shares, classes: Sequence[str], names: Sequence[str]
) -> tuple[ClassShare, ...]:
    """Means of each group with enough annotations, and of all patients if all groups have some."""
    found: dict[str, list[ClassShare]] = {}
    for name in names:
        there = shares.groups == name
        for k, label in enumerate(classes):
            true = shares.true[there, k]
            mean = powered_mean(shares.predicted[there, k], true)
            if mean:
                own = ClassShare(name, label, mean, int((true > 0).sum()))
                found.setdefault(label, []).append(own)
    rows = [row for label in classes for row in found.get(label, ())]
    rows.sort(key=lambda row: names.index(str(row.group)))
    whole = [
        ClassShare(
            None,
            label,
            joined_mean([row.found for row in own]),
            sum(row.with_class for row in own),
        )
        for label, own in found.items()
        if len(own) == len(names)
    ]
    return tuple(whole if list(names) == [""] else rows + whole)


def _differences(
    shares: _Shares, classes: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[str, str, str, PoweredDifference]]:
    """Compare each pair of groups of at least `MIN_GROUP` patients."""
    large = [name for name in names if (shares.groups == name).sum() >= MIN_GROUP]
    for k, label in enumerate(classes):
        for a, b in combinations(large, 2):
            parts = shares.groups == a, shares.groups == b
            pair = powered_difference(shares.predicted[:, k], shares.true[:, k], *parts)
            if pair and np.isfinite(pair.p):
                yield label, a, b, pair
