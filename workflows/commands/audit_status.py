"""State of an audit: answers of each reader, their agreement, and areas with their intervals."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.kappa import Kappa, cohens_kappa
from noctile.pipeline.audit.sample import UNSURE, part_of
from noctile.pipeline.patients.audited import MIN_POINTS, AuditedArea
from noctile.workflows.results.audit_rows import (
    MOST_POINTS,
    SPECIAL_ANSWERS,
    AuditAnswer,
    AuditDesign,
)
from noctile.workflows.results.audits import Audits

LEAST_SLIDES: Final = 100
"""Fewest chosen slides of a group with which intervals of accuracies hold, for 300 points.

From the table of chosen slides in benchmarks/history/audit.md; intervals of areas hold with ten.
"""


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """State of an audit.

    Attributes:
        points: number of points.
        slides: number of slides with points.
        frame: number of slides that the audit speaks for.
        left_out: number of slides that it does not speak for, by reason.
        readers: number of answers of each reader, by name.
        stale: slides with points whose result has gone or was made anew since.
        agreement: agreement of each two readers who answered the same points, by their names.
    """

    points: int
    slides: int
    frame: int
    left_out: Mapping[str, int]
    readers: Mapping[str, int]
    stale: Sequence[str]
    agreement: Mapping[tuple[str, str], Kappa]


@dataclass(frozen=True, slots=True)
class WantedArea:
    """Area of a class on all slides of an audit, and the points that a wanted interval takes.

    Attributes:
        found: the area, with its present interval.
        half_width: wanted half of the interval's width, by the area; NaN for no area.
        further: number of further points with a class that it takes; None if no number suffices.
        total: number of points of the audit that it takes, if as many as so far get no class; None
            if so many cannot be drawn.
    """

    found: AuditedArea
    half_width: float
    further: int | None
    total: int | None


def audit_progress(audits: Audits) -> AuditProgress:
    """Return the state of an audit.

    Raises:
        StoreError: if a file of the audit is damaged, or there is none.
    """
    design, points, answers = audits.design(), audits.points(), audits.answers()
    return AuditProgress(
        len(points),
        len({point.slide_id for point in points}),
        len(design.slides),
        design.left_out,
        dict(sorted(Counter(row.reader for row in answers).items())),
        audits.stale(),
        _agreement(design, answers),
    )


def _agreement(design: AuditDesign, answers: Sequence[AuditAnswer]) -> dict[tuple[str, str], Kappa]:
    """Agreement of each two readers, each point counted once."""
    numbers = {name: k for k, name in enumerate(design.class_names)} | SPECIAL_ANSWERS
    points = {name: row for row, name in enumerate(sorted({a.point_id for a in answers}))}
    given: defaultdict[str, Int64] = defaultdict(lambda: np.full(len(points), UNSURE, np.int64))
    for answer in answers:
        given[answer.reader][points[answer.point_id]] = numbers[answer.answer]
    pairs = {pair: (given[pair[0]], given[pair[1]]) for pair in combinations(sorted(given), 2)}
    found = {pair: cohens_kappa(*both, len(design.classes)) for pair, both in pairs.items()}
    return {pair: kappa for pair, kappa in found.items() if kappa is not None}


def audit_areas(audits: Audits, half_width: float | None = None) -> list[WantedArea]:
    """Return the area of each class on all slides of an audit, but for those that are stale.

    Args:
        audits: the audit.
        half_width: wanted half of an interval's width by its area; None for half of the present
            one.

    Returns:
        No area if fewer than `MIN_POINTS` points have a class.

    Raises:
        StoreError: if a file of the audit is damaged, or there is none.
    """
    data = audits.sample()
    kept = np.flatnonzero([name not in data.stale for name in data.slides])
    frame, sample = part_of(data.frame, data.sample, kept)
    if np.count_nonzero(sample.answers >= 0) < MIN_POINTS:
        return []
    areas = corrected_areas(frame, sample)
    rows = (
        AuditedArea(None, name, areas, area)
        for name, area in zip(data.classes, areas.classes, strict=True)
    )
    most = MOST_POINTS
    if data.stale:  # then none can be added
        most = sum(point.slide_id not in data.stale for point in audits.points())
    return [
        _wanted(row, row.half_width / 2 if half_width is None else half_width, most) for row in rows
    ]


def _wanted(found: AuditedArea, half_width: float, most: int) -> WantedArea:
    """Area with the points that a half-width takes, of at most some that can be drawn."""
    further, n = found.further_points(half_width), found.areas
    if further is None:
        return WantedArea(found, half_width, None, None)
    with_class = n.points / (n.points + n.unsure + n.unreadable)
    total = math.ceil((n.points + further) / with_class)
    return WantedArea(found, half_width, further, total if total <= most else None)


def few_slides(design: AuditDesign) -> int | None:
    """Return the smallest number of slides that were chosen of a group; None if they suffice."""
    chosen = Counter(slide.group for slide in design.slides if slide.chosen)
    part = {slide.group for slide in design.slides if not slide.chosen}
    fewest = min((chosen[group] for group in part), default=LEAST_SLIDES)
    return fewest if fewest < LEAST_SLIDES else None
