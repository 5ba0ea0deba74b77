"""Design and points of an audit as the arrays that the estimators take."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.audit.design import weights_mm2
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.workflows.results.audit_rows import SPECIAL_ANSWERS, AuditDesign, AuditPoint


class AuditData(NamedTuple):
    """Frame and sample of an audit, and the names behind their numbers.

    Attributes:
        frame: all slides that the audit speaks for.
        sample: points with an answer.
        slides: names of the slides, by their row in the frame.
        patients: names of the patients, by their number.
        groups: names of the groups, by their number.
        classes: names of the classes, by their number.
        stale: names of slides of the frame whose result has gone or was made anew since.
    """

    frame: AuditFrame
    sample: AuditSample
    slides: list[str]
    patients: list[str]
    groups: list[str]
    classes: list[str]
    stale: list[str]


def last_batch(points: Iterable[AuditPoint]) -> int:
    """Return the number of points that were asked for when the last of some was drawn."""
    return max(point.batch for point in points)


def point_counts(design: AuditDesign, points: Sequence[AuditPoint]) -> Int64:
    """Return the number of points on each slide in each predicted class.

    Args:
        design: the design.
        points: points of the audit.

    Returns:
        int64 ``[frame slides, strata]``.
    """
    counts = np.zeros((len(design.slides), len(design.classes)), np.int64)
    np.add.at(counts, _places(design, points), 1)
    return counts


def point_weights(design: AuditDesign, points: Sequence[AuditPoint]) -> list[float]:
    """Return the area that each point stands for (mm2), if these are all points of the sample."""
    frame, _ = frame_of(design)
    counts, everywhere = point_counts(design, points), np.ones(len(design.slides))
    weights = weights_mm2(frame.area_mm2, frame.groups, everywhere, counts)
    return [float(weight) for weight in weights[_places(design, points)]]


def _places(design: AuditDesign, points: Sequence[AuditPoint]) -> tuple[Int64, Int64]:
    """Row of the slide and column of the predicted class of each point."""
    rows = {slide.slide_id: row for row, slide in enumerate(design.slides)}
    columns = {name: column for column, name in enumerate(design.class_names)}
    return (
        np.array([rows[point.slide_id] for point in points], np.int64),
        np.array([columns[point.stratum] for point in points], np.int64),
    )


def audit_data(
    design: AuditDesign, points: Sequence[AuditPoint], answers: Sequence[str], stale: list[str]
) -> AuditData:
    """Return the frame, and the sample of the points that have an answer.

    Args:
        design: the design.
        points: points with an answer.
        answers: answer to each point.
        stale: names of slides whose result has gone or was made anew since.
    """
    frame, (patients, groups) = frame_of(design)
    slides = [slide.slide_id for slide in design.slides]
    numbers = {name: k for k, name in enumerate(design.class_names)} | SPECIAL_ANSWERS
    sample = AuditSample(
        *_places(design, points),
        answers=np.array([numbers[answer] for answer in answers], np.int64),
        weights_mm2=np.array(point_weights(design, points), np.float64),
    )
    return AuditData(frame, sample, slides, patients, groups, design.class_names, stale)


def frame_of(design: AuditDesign) -> tuple[AuditFrame, tuple[list[str], list[str]]]:
    """Return the frame of a design, and the names of its patients and groups."""
    slides, names = design.slides, design.class_names
    patients, patient_numbers = _numbered(slide.patient for slide in slides)
    groups, group_numbers = _numbered(slide.group for slide in slides)
    areas = [[slide.area_mm2[name] for name in names] for slide in slides]
    frame = AuditFrame(
        patients=patient_numbers,
        groups=group_numbers,
        area_mm2=np.array(areas, np.float64).reshape(len(slides), len(names)),
        probability=np.array([slide.probability for slide in slides], np.float64),
    )
    return frame, (patients, groups)


def _numbered(names: Iterable[str]) -> tuple[list[str], Int64]:
    """Distinct names, sorted, and the number of each name in this list."""
    listed = list(names)
    distinct = sorted(set(listed))
    numbers = {name: number for number, name in enumerate(distinct)}
    return distinct, np.array([numbers[name] for name in listed], np.int64)
