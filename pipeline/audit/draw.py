"""Points of an audit, drawn at random among the pixels of each predicted class of a slide.

Each pixel of a class is equally likely. A part of the label map is chosen by its count of pixels of
the class, then a pixel within it, so that only small parts are read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Int64, UInt8
from noctile.pipeline.geometry import Box

SPACING_UM: Final = 20.0
"""Smallest distance between two points of a slide (um).

About the size of a carcinoma cell, so that no cell is judged twice. Two points that close would
also add little knowledge: their classes are nearly always the same.
"""

MOST_TRIES: Final = 100
"""Most draws for one point. A class that has no room for a further point gets fewer."""


@dataclass(frozen=True, slots=True)
class LabelParts:
    """Label map of a slide as parts whose labels have been counted.

    Attributes:
        boxes: boxes of the parts in the label map (px), which do not overlap.
        pixels: int64 ``[parts, classes]``, number of pixels of each class.
        codes: code of each class in the label map.
        mpp: height and width of a pixel of the label map (um).
        read: reads the labels of a box, uint8 ``[h, w]``.
    """

    boxes: Sequence[Box]
    pixels: Int64
    codes: Sequence[int]
    mpp: tuple[float, float]
    read: Callable[[Box], UInt8]


@dataclass(frozen=True, slots=True)
class DrawnPoint:
    """Pixel of the label map that was drawn.

    Attributes:
        y: row (px).
        x: column (px).
        stratum: place of its class among the codes, from 0 up.
    """

    y: int
    x: int
    stratum: int


def draw_points(
    parts: LabelParts,
    wanted: Sequence[int],
    rng: np.random.Generator,
    there: Sequence[DrawnPoint] = (),
) -> list[DrawnPoint]:
    """Draw points of each class at random; no two of them are closer than `SPACING_UM`.

    The class with the fewest pixels comes first, so that it is not crowded out by others.

    Args:
        parts: label map of the slide.
        wanted: number of points of each class.
        rng: source of all random choices.
        there: points of an earlier draw, from which the new ones keep the same distance.

    Returns:
        The new points, fewer than wanted where there is no room for them.

    Raises:
        ValueError: if the counts differ from the labels.
    """
    drawn = list(there)
    totals = parts.pixels.sum(axis=0)
    for stratum in np.argsort(totals, kind="stable").tolist():
        for _ in range(wanted[stratum] if totals[stratum] else 0):
            tries = (_draw(parts, stratum, rng) for _ in range(MOST_TRIES))
            point = next((p for p in tries if _has_room(p, drawn, parts.mpp)), None)
            if point is None:
                break
            drawn.append(point)
    return drawn[len(there) :]


def _draw(parts: LabelParts, stratum: int, rng: np.random.Generator) -> DrawnPoint:
    """Draw one pixel of a class, each with the same probability.

    Raises:
        ValueError: if the count of the part differs from its labels.
    """
    ends = np.cumsum(parts.pixels[:, stratum])
    number = int(rng.integers(ends[-1]))
    part = int(np.searchsorted(ends, number, side="right"))
    box, counted = parts.boxes[part], int(parts.pixels[part, stratum])
    found = np.flatnonzero(parts.read(box) == parts.codes[stratum])
    if len(found) != counted:
        raise ValueError(f"{box} has {len(found)} pixels of a class, and {counted} were counted")
    y, x = divmod(int(found[number - (int(ends[part]) - counted)]), box.width)
    return DrawnPoint(box.y + y, box.x + x, stratum)


def _has_room(point: DrawnPoint, drawn: Sequence[DrawnPoint], mpp: tuple[float, float]) -> bool:
    return all(
        math.hypot((point.y - other.y) * mpp[0], (point.x - other.x) * mpp[1]) >= SPACING_UM
        for other in drawn
    )
