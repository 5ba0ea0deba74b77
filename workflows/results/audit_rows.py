"""Design, points and answers of an audit, as values: parsed from and written to text."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypeVar

from noctile.pipeline.audit.sample import UNREADABLE, UNSURE
from noctile.pipeline.csv_cells import escape_cell, unescape_cell

MOST_POINTS: Final = 20_000
"""Most points of an audit."""

MOST_ROWS: Final = 200_000
"""Most answers of an audit."""

SPECIAL_ANSWERS: Final[dict[str, int]] = {"unsure": UNSURE, "unreadable": UNREADABLE}
"""Answers that are no class, with their numbers in a sample."""


@dataclass(frozen=True, slots=True)
class AuditClass:
    """Class of an audit.

    Attributes:
        name: name of the class.
        code: value in the label maps.
        role: role of the class, such as ``tumor``.
        color: red, green and blue, 0..255.
    """

    name: str
    code: int
    role: str
    color: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class AuditSlide:
    """Slide of the frame of an audit.

    Attributes:
        slide_id: name of the slide.
        key: content key of the result that the points were drawn from.
        patient: patient of the slide; the slide itself where the manifest names none.
        group: group of the slide; empty without groups.
        area_mm2: area of each predicted class (mm2), by its name.
        probability: probability with which the design chose the slide, above 0 and at most 1.
        chosen: True if it chose the slide, so that points are drawn on it.
    """

    slide_id: str
    key: str
    patient: str
    group: str
    area_mm2: Mapping[str, float]
    probability: float
    chosen: bool = True


@dataclass(frozen=True, slots=True)
class AuditDesign:
    """Design of an audit: all slides that it speaks for, and how its points were drawn.

    Attributes:
        points: number of points that were asked for at first.
        by: column of the table of slides that names the groups; empty without groups.
        seed: seed of all random choices.
        spacing_um: smallest distance between two points of a slide (um).
        drawn_at: time of the drawing, ISO 8601 in UTC.
        versions: version of Noctile.
        classes: predicted classes, the strata, in the order of the model.
        left_out: number of slides that are not in the frame, by reason.
        slides: slides of the frame, sorted by id.
        n_slides: number of slides to choose that was asked for; None for all.
    """

    points: int
    by: str
    seed: int
    spacing_um: float
    drawn_at: str
    versions: Mapping[str, str]
    classes: tuple[AuditClass, ...]
    left_out: Mapping[str, int]
    slides: tuple[AuditSlide, ...]
    n_slides: int | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in order."""
        return [info.name for info in self.classes]


@dataclass(frozen=True, slots=True)
class AuditPoint:
    """Point of an audit: the centre of a pixel of a label map.

    Attributes:
        point_id: name of the point; its number tells nothing about its class.
        slide_id: name of the slide.
        y_px: row in level 0 of the slide's file (px).
        x_px: column in level 0 of the slide's file (px).
        y_um: distance from the top of the scanned region (um).
        x_um: distance from the left side of the scanned region (um).
        stratum: predicted class.
        group: group of the slide.
        weight_mm2: area of the cohort that the point stands for, if all points are answered (mm2).
        batch: number of points that were asked for when the point was drawn.
    """

    point_id: str
    slide_id: str
    y_px: float
    x_px: float
    y_um: float
    x_um: float
    stratum: str
    group: str
    weight_mm2: float
    batch: int


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """Answer of one reader to one point.

    Attributes:
        point_id: name of the point.
        reader: name of the reader.
        answer: name of a class, or one of `SPECIAL_ANSWERS`.
        answered_at: time of the answer, ISO 8601 in UTC.
    """

    point_id: str
    reader: str
    answer: str
    answered_at: str


_Row = TypeVar("_Row", AuditPoint, AuditAnswer)


def design_to_json(design: AuditDesign) -> dict[str, Any]:
    """Convert a design to plain values."""
    return asdict(design)


def design_from_json(values: Any) -> AuditDesign:
    """Read the values that `design_to_json` made.

    Raises:
        ValueError: if a value is missing, or of another type.
    """
    try:
        classes = tuple(
            AuditClass(_text(c["name"]), int(c["code"]), _text(c["role"]), _color(c["color"]))
            for c in values["classes"]
        )
        names = {info.name for info in classes}
        return AuditDesign(
            points=int(values["points"]),
            by=_text(values["by"]),
            seed=int(values["seed"]),
            spacing_um=_number(values["spacing_um"]),
            drawn_at=_text(values["drawn_at"]),
            versions={_text(k): _text(v) for k, v in values["versions"].items()},
            classes=classes,
            left_out={_text(k): int(v) for k, v in values["left_out"].items()},
            slides=tuple(_slide(slide, names) for slide in values["slides"]),
            n_slides=None if (number := values.get("n_slides")) is None else int(number),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"it is no design of an audit ({error!r:.100})") from error


def _slide(values: Any, names: set[str]) -> AuditSlide:
    names_of = ("slide_id", "key", "patient", "group")
    slide_id, key, patient, group = (_text(values[name]) for name in names_of)
    areas = {_text(name): _number(mm2) for name, mm2 in values["area_mm2"].items()}
    probability = _number(values["probability"])
    if areas.keys() != names or min(areas.values()) < 0 or not 0 < probability <= 1:
        raise ValueError(f"the values of slide {slide_id!r:.40} are no areas and no probability")
    chosen = values.get("chosen", True)
    if not isinstance(chosen, bool):
        raise TypeError(f"{chosen!r:.40} is neither true nor false")
    return AuditSlide(slide_id, key, patient, group, areas, probability, chosen)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def _color(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def rows_text(kind: type[_Row], rows: Iterable[_Row]) -> str:
    """Write points or answers as the text of a CSV file, in the order in which they come."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names := [field.name for field in fields(kind)])
    for row in rows:
        writer.writerow([escape_cell(str(getattr(row, name))) for name in names])
    return text.getvalue()


def parse_points(lines: Iterator[list[str]], batch: int) -> Iterator[AuditPoint]:
    """Read the rows of ``points.csv``.

    Args:
        lines: cells of each line.
        batch: batch of the points of a file without this column.

    Raises:
        ValueError: if the columns differ, or a cell is not as Noctile writes it.
    """
    for values in _rows(AuditPoint, lines, MOST_POINTS, {"batch"}):
        numbers = {
            name: float(values[name]) for name in ("y_px", "x_px", "y_um", "x_um", "weight_mm2")
        }
        if not all(map(math.isfinite, numbers.values())) or numbers["weight_mm2"] <= 0:
            raise ValueError(f"point {values['point_id']!r:.40} has no position or no weight")
        yield AuditPoint(**values | numbers | {"batch": int(values.get("batch", batch))})


def parse_answers(lines: Iterator[list[str]]) -> Iterator[AuditAnswer]:
    """Read the rows of ``answers.csv``.

    Raises:
        ValueError: if the columns differ, or a reader has two answers to a point.
    """
    seen = set[tuple[str, str]]()
    for values in _rows(AuditAnswer, lines, MOST_ROWS):
        row = AuditAnswer(**values)
        if (key := answer_order(row)) in seen:
            raise ValueError(f"{row.reader!r:.40} has two answers to {row.point_id!r:.40}")
        seen.add(key)
        yield row


def _rows(
    kind: type[_Row], lines: Iterator[list[str]], most: int, optional: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Cells of a CSV file by the names of their columns, which may stand in any order."""
    header: list[str] = next(lines, [])
    names = [field.name for field in fields(kind)]
    if sorted({*header, *optional}) != sorted(names) or len(set(header)) < len(header):
        raise ValueError(f"its columns are not {', '.join(names)}")
    for number, cells in enumerate(lines, start=2):
        if len(cells) not in (0, len(header)) or number > most + 1:
            raise ValueError(f"line {number} has other cells, or is one of more than {most} rows")
        if cells:
            yield dict(zip(header, map(unescape_cell, cells), strict=True))


def answer_order(row: AuditAnswer) -> tuple[str, str]:
    """Key by which answers are sorted: point, then reader."""
    return row.point_id, row.reader


def agreed(answers: Sequence[str]) -> str:
    """Return the answer that most readers gave to a point; ``unsure`` if two are as frequent."""
    counts = sorted(((answers.count(answer), answer) for answer in set(answers)), reverse=True)
    tied = len(counts) > 1 and counts[0][0] == counts[1][0]
    return "unsure" if tied else counts[0][1]
