"""Point sample of a cohort: slides with areas of predicted classes, points with answers."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Float64, Int64

UNSURE: Final = -1
"""Answer of a reader who sees the point and cannot tell its class."""

UNREADABLE: Final = -2
"""Answer of a reader who cannot see the tissue at the point: out of focus, pen, fold."""


@dataclass(frozen=True, slots=True, eq=False)
class AuditFrame:
    """All slides to which the estimates of an audit apply, sampled or not.

    Attributes:
        patients: int64 ``[slides]``, number of the patient of each slide, from 0 up.
        groups: int64 ``[slides]``, number of the group of each slide, from 0 up; all 0 without
            groups.
        area_mm2: float64 ``[slides, strata]``, area of each predicted class on each slide (mm2).
        probability: float64 ``[slides]``, probability with which the design chose each slide,
            above 0 and at most 1.
    """

    patients: Int64
    groups: Int64
    area_mm2: Float64
    probability: Float64


@dataclass(frozen=True, slots=True, eq=False)
class AuditSample:
    """Points of a frame, with one answer each.

    Attributes:
        slides: int64 ``[points]``, row of the slide in the frame.
        strata: int64 ``[points]``, column of the predicted class in the frame.
        answers: int64 ``[points]``, number of the true class, `UNSURE` or `UNREADABLE`. The true
            classes are numbered like the strata.
        weights_mm2: float64 ``[points]``, area of the cohort that each point stands for (mm2), from
            `noctile.pipeline.audit.design.weights_mm2`: the same for all points of a predicted
            class in a group.
    """

    slides: Int64
    strata: Int64
    answers: Int64
    weights_mm2: Float64


def part_of(
    frame: AuditFrame, sample: AuditSample, slides: Int64
) -> tuple[AuditFrame, AuditSample]:
    """Return the part of a frame that some slides are, and the points on them.

    Args:
        frame: all slides.
        sample: their points.
        slides: int64, rows of the slides to keep, in the order in which they are wanted.
    """
    place = np.full(len(frame.groups), -1, np.int64)
    place[slides] = np.arange(len(slides))
    there = place[sample.slides] >= 0
    return (
        AuditFrame(
            frame.patients[slides],
            frame.groups[slides],
            frame.area_mm2[slides],
            frame.probability[slides],
        ),
        AuditSample(
            place[sample.slides[there]],
            sample.strata[there],
            sample.answers[there],
            sample.weights_mm2[there],
        ),
    )
