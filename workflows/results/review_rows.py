"""Rows and regions of reviews, as values: parsed from and written to text."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from noctile.pipeline.csv_cells import escape_cell, unescape_cell
from noctile.pipeline.review import STATUSES, reviewer_of


@dataclass(frozen=True, slots=True)
class Review:
    """Review of one slide by one reviewer.

    Attributes:
        slide_id: name of the slide.
        reviewer: name of the reviewer.
        status: one of `noctile.pipeline.review.STATUSES`.
        note: note of the reviewer.
        time: time of the last change, ISO 8601 in UTC.
        result: ``key`` in the summary of the result that was reviewed; empty if it is not known.
        more: names and cells of columns that a person has added to ``review.csv``.
    """

    slide_id: str
    reviewer: str
    status: str = ""
    note: str = ""
    time: str = ""
    result: str = ""
    more: tuple[tuple[str, str], ...] = ()


_COLUMNS = ("slide_id", "reviewer", "status", "note", "time", "result")


@dataclass(frozen=True, slots=True)
class SlideReview:
    """Reviews of one slide by all reviewers.

    Attributes:
        reviews: one row for each reviewer, sorted by name.
        regions: regions that are left out, as a GeoJSON FeatureCollection.
    """

    reviews: tuple[Review, ...] = ()
    regions: dict[str, Any] = field(default_factory=lambda: collection(()))

    @property
    def version(self) -> str:
        """Text that changes with every change; a part of it stands for each reviewer."""
        names = {row.reviewer for row in self.reviews}
        names |= {reviewer_of(feature) for feature in self.regions["features"]}
        return " ".join(sorted(f"{digest(name)}:{self.part(name)}" for name in names))

    def part(self, reviewer: str) -> str:
        """Part of the version that stands for the row and the regions of one reviewer."""
        rows = [asdict(row) for row in self.reviews if row.reviewer == reviewer]
        own = [f for f in self.regions["features"] if reviewer_of(f) == reviewer]
        return digest(json.dumps([rows, own], sort_keys=True)) if rows or own else ""


_MOST_ROWS, _MOST_COLUMNS = 200_000, 100
"""Most rows and columns of a ``review.csv`` that is read."""


def parse_rows(lines: Iterator[list[str]]) -> Iterator[Review]:
    """Read the rows of ``review.csv``; the columns may stand in any order.

    Everything in the file is in the rows, so that it can be written anew and loses nothing.

    Raises:
        ValueError: if a column is missing, there is a cell without a column or a row without a
            slide, a reviewer has two rows of a slide, or a status is unknown.
    """
    header = [unescape_cell(name) for name in next(lines, [])]
    if not {"slide_id", "reviewer", "status"} <= set(header):
        raise ValueError("it has no columns slide_id, reviewer and status")
    if len(set(header)) < len(header) or len(header) > _MOST_COLUMNS:
        raise ValueError(f"it has two columns of one name, or more than {_MOST_COLUMNS} columns")
    seen = set[tuple[str, str]]()
    for number, cells in enumerate(lines, start=2):
        if any(cells):
            row = _parse_row(header, cells, f"line {number}")
            if (key := review_order(row)) in seen:
                name, by = (f"{text!r:.40}" for text in key)
                raise ValueError(f"line {number} is a second row for {name} by {by}")
            seen.add(key)
            yield row
        if number > _MOST_ROWS:
            raise ValueError(f"it has more than {_MOST_ROWS} rows")


def _parse_row(header: list[str], cells: list[str], line: str) -> Review:
    if len(cells) > len(header):
        raise ValueError(f"{line} has more cells than the header")
    named = dict(zip(header, map(unescape_cell, cells), strict=False))
    more = tuple((name, cell) for name, cell in named.items() if name not in _COLUMNS)
    row = Review(**{name: named.get(name, "") for name in _COLUMNS}, more=more)
    if row.status not in STATUSES:
        raise ValueError(f"{line}: {row.status!r:.40} is none of {', '.join(STATUSES[1:])}")
    if not row.slide_id:
        raise ValueError(f"{line} has no slide_id")
    return row


def rows_text(rows: Iterable[Review]) -> str:
    """Write rows as the text of ``review.csv``."""
    rows, text = sorted(rows, key=review_order), io.StringIO(newline="")
    columns = [*_COLUMNS, *dict.fromkeys(name for row in rows for name, _ in row.more)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escape_cell(_one_break(name)) for name in columns])
    for row in rows:
        cells = asdict(row) | dict(row.more)
        writer.writerow([escape_cell(_one_break(cells.get(name, ""))) for name in columns])
    return text.getvalue()


def _one_break(cell: str) -> str:
    """Cell whose line breaks are line feeds; a lone carriage return makes a CSV file unreadable."""
    return cell.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def review_order(row: Review) -> tuple[str, str]:
    """Key by which rows are sorted: slide, then reviewer."""
    return row.slide_id, row.reviewer


def collection(features: Sequence[Any]) -> dict[str, Any]:
    """Make a GeoJSON FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(features)}


def digest(text: str) -> str:
    """Short hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
