"""Areas of a cohort corrected by an audit, beside those of the model, by group."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from noctile.pipeline.audit.comparison import GroupDifference, group_difference, patient_areas
from noctile.pipeline.audit.estimators import ClassArea, CorrectedAreas, corrected_areas
from noctile.pipeline.audit.planning import further_points
from noctile.pipeline.audit.sample import AuditFrame, AuditSample, part_of
from noctile.pipeline.patients.analysis import Analysis
from noctile.pipeline.patients.question import sorted_groups
from noctile.pipeline.patients.share_difference import ShareDifference, share_differences
from noctile.pipeline.statistics.groups import MIN_GROUP

MIN_POINTS: Final = 20
"""Fewest answered points with which areas are corrected. A rule."""

HALF_WIDTH: Final = 0.1
"""Half-width of an area's interval, by the area, for which further points are told. A rule."""


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """Frame and answered points of an audit, with the names behind their numbers.

    Attributes:
        frame: all slides that the audit speaks for.
        sample: points with one answer each.
        slides: names of the slides, by their row in the frame.
        classes: names of the classes, by their number.
        stale: names of slides whose result has gone or was made anew since the points were drawn.
    """

    frame: AuditFrame
    sample: AuditSample
    slides: Sequence[str]
    classes: Sequence[str]
    stale: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class AuditedArea:
    """Corrected area of one class in one group.

    Attributes:
        group: name of the group; None for all patients.
        name: name of the class.
        areas: numbers of slides, patients and points of the group.
        area: the area, beside that of the model.
    """

    group: str | None
    name: str
    areas: CorrectedAreas
    area: ClassArea

    @property
    def half_width(self) -> float:
        """Half of the interval's width by the area; NaN for no area."""
        area = self.area.area_mm2
        return (area.high - area.low) / (2 * area.value) if area.value > 0 else math.nan

    def further_points(self, half_width: float = HALF_WIDTH) -> int | None:
        """Number of further answers on these slides until the interval is as narrow as wanted.

        Args:
            half_width: half of the interval's width by the area, above 0.

        Returns:
            None if no number of points on these slides suffices, or there is no area.
        """
        if not self.area.area_mm2.value > 0:
            return None
        wanted = half_width * self.area.area_mm2.value
        part = self.area.slides_part
        return further_points(self.area.area_mm2, self.areas.points, wanted, part)


@dataclass(frozen=True, slots=True)
class Audited:
    """Areas of a cohort, corrected by an audit.

    Attributes:
        areas: area of each class, by group and of all patients.
        differences: comparisons of groups on the corrected shares of patients.
        missing: analysed slides that the audit does not speak for: outside of its frame, or stale.
        points: answered points on the analysed slides.
        problem: reason why nothing was corrected; "" if it was.
    """

    areas: tuple[AuditedArea, ...]
    differences: tuple[ShareDifference[GroupDifference], ...]
    missing: tuple[str, ...]
    points: int
    problem: str = ""


def audited(analysis: Analysis, audit: Audit) -> Audited:
    """Correct the areas of the patients of a question.

    The frame is cut to the slides that answer the question, and points are post-stratified by
    predicted class and the groups of the question.

    Args:
        analysis: the analysis.
        audit: frame and answered points.
    """
    numbers = {name: k for k, name in enumerate(audit.slides)}
    patients, rows, missing = [], [], []
    of_rows: list[str] = []
    groups = analysis.groups if analysis.question.kind == "groups" else ()
    for k, patient in enumerate(analysis.values.patients):
        for slide in patient.analysed:
            if slide.slide_id not in numbers or slide.slide_id in audit.stale:
                missing.append(slide.slide_id)
                continue
            rows.append(numbers[slide.slide_id])
            patients.append(k)
            of_rows.append(groups[k] if groups else "")
    names = sorted_groups(of_rows)
    numbered = np.array([names.index(group) for group in of_rows], np.int64)
    frame, sample = part_of(audit.frame, audit.sample, np.array(rows, np.int64))
    frame = replace(frame, patients=np.array(patients, np.int64), groups=numbered)
    points = int((sample.answers >= 0).sum())
    if points < MIN_POINTS:
        problem = f"{points} points on these slides have a class; {MIN_POINTS} are needed"
        return Audited((), (), tuple(missing), points, problem)
    areas = _areas(frame, sample, audit.classes, names if groups else [])
    compared = _differences(frame, sample, audit.classes, names) if groups else ()
    return Audited(areas, share_differences(compared), tuple(missing), points)


def _areas(
    frame: AuditFrame, sample: AuditSample, classes: Sequence[str], groups: Sequence[str]
) -> tuple[AuditedArea, ...]:
    parts = [(name, corrected_areas(frame, sample, k)) for k, name in enumerate(groups)]
    whole = (None, corrected_areas(frame, sample))
    return tuple(
        AuditedArea(group, name, areas, area)
        for group, areas in (*parts, whole)
        for name, area in zip(classes, areas.classes, strict=True)
    )


def _differences(
    frame: AuditFrame, sample: AuditSample, classes: Sequence[str], groups: Sequence[str]
) -> Iterator[tuple[str, str, str, GroupDifference]]:
    """Compare each pair of groups of at least `MIN_GROUP` patients."""
    for k, name in enumerate(classes):
        areas = patient_areas(frame, sample, k)
        for a, b in combinations(range(len(groups)), 2):
            difference = group_difference(areas, a, b)
            if difference and min(difference.patients) >= MIN_GROUP:
                yield name, groups[a], groups[b], difference
