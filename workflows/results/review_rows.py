"""Rows and regions of reviews, as values: parsed from and written to text."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        result: hash of the summary of the result that was reviewed; empty if it is not known.
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


def parse_rows(lines: Iterator[list[str]]) -> Iterator[Review]:
    """Read the rows of ``review.csv``; the columns may stand in any order.

    Raises:
        ValueError: if a column is missing, or a status is unknown.
    """
    header = next(lines, [])
    if not {"slide_id", "reviewer", "status"} <= set(header):
        raise ValueError("it has no columns slide_id, reviewer and status")
    for number, cells in enumerate(lines, start=2):
        named = dict(zip(header, map(unescape_cell, cells), strict=False))
        more = tuple((name, cell) for name, cell in named.items() if name not in _COLUMNS)
        own = {name: named.get(name, "") for name in _COLUMNS}
        row = Review(**own, more=more)
        if row.status not in STATUSES:
            raise ValueError(f"line {number}: {row.status!r:.40} is none of {STATUSES[1:]}")
        if row.slide_id:
            yield row


def rows_text(rows: Iterable[Review]) -> str:
    """Write rows as the text of ``review.csv``."""
    rows, text = sorted(rows, key=review_order), io.StringIO(newline="")
    columns = [*_COLUMNS, *dict.fromkeys(name for row in rows for name, _ in row.more)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = asdict(row) | dict(row.more)
        writer.writerow([escape_cell(str(cells.get(name, ""))) for name in columns])
    return text.getvalue()


def review_order(row: Review) -> tuple[str, str]:
    """Key by which rows are sorted: slide, then reviewer."""
    return row.slide_id, row.reviewer


def collection(features: Sequence[Any]) -> dict[str, Any]:
    """Make a GeoJSON FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(features)}


def digest(text: str) -> str:
    """Short hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def summary_digest(summary: Mapping[str, Any]) -> str:
    """Short hash of a summary, by which a result is told from an earlier one of the same slide."""
    return digest(json.dumps(summary, sort_keys=True))
