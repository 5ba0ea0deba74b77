"""Folder of results, opened for a program: the table of its slides, and the result of each."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.columns import class_of
from noctile.pipeline.errors import SlideNotDoneError, StoreError, UsageError
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.region_table import are_confined, region_table
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import printable
from noctile.workflows.commands.frames import to_frame
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.guard import check_holds_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.standing import read_standing

if TYPE_CHECKING:
    import pandas as pd

_MakeTable = Callable[[Sequence[SlideRow], Sequence[str]], pa.Table]
"""Function that makes a table from the rows of the slides and the names of the classes."""


class Results(Mapping[str, SlideResult]):
    """Folder of results: a mapping from the ids of the slides that are done to their results.

    `open_results` makes it. It reads what stands in the folder at that moment, also while a run is
    at work, and never writes.

    Attributes:
        path: path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results = ResultsFolder(path)

    def __repr__(self) -> str:
        """Name the folder, and the number of slides that are done."""
        return f"<Results {self.path}: {len(self)} slides done>"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the slides that are done, sorted.

        Raises:
            StoreError: if the folder cannot be listed.
        """
        try:
            with os.scandir(self._results.slides) as entries:
                ids = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return iter(())
        except OSError as error:
            raise StoreError(f"{self._results.slides} cannot be read: {error}") from error
        return iter(sorted(i for i in ids if self._is_done(i)))

    def __len__(self) -> int:
        """Count the slides that are done."""
        return sum(1 for _ in self)

    def __contains__(self, slide_id: object) -> bool:
        """Tell if a slide is done."""
        return isinstance(slide_id, str) and self._is_done(slide_id)

    def __getitem__(self, slide_id: str) -> SlideResult:
        """Open the result of a slide.

        Raises:
            SlideNotDoneError: if there is none; the message has status and reason. It is a
                KeyError.
            StoreError: if its files are not those that were written.
        """
        if not self._is_done(slide_id):
            raise SlideNotDoneError(self._why_not_done(slide_id))
        folder = self._results.slide(slide_id)
        if fault := slide_fault(folder):
            raise StoreError(
                f"the result of {slide_id} is damaged: {fault} in {folder.path}; run the same "
                "command again, which makes it again"
            )
        return SlideResult(folder)

    @property
    def slides(self) -> "pd.DataFrame":
        """One row for each slide that the folder knows, done or not.

        Its columns are those of ``slides.parquet``, with their types; its index has the slide_ids.
        Each use reads the table again, so keep it in a variable.

        ``slides.parquet`` is read if nothing has changed since it was written. Otherwise,
        for instance after a kill, it is made from the ledger and the summaries, with a warning.

        Raises:
            StoreError: if a summary holds a value of a wrong type.
        """
        frame = to_frame(self._table())
        return frame.set_axis(frame["slide_id"].rename(None))

    def table(self) -> pa.Table:
        """One row for each slide that the folder knows, as an Arrow table; see ``slides``.

        Raises:
            StoreError: if a summary holds a value of a wrong type.
        """
        return self._table()

    def region_table(self) -> pa.Table:
        """One row for each region of interest, as an Arrow table; see ``regions``.

        Raises:
            StoreError: if a summary holds a value of a wrong type.
        """
        slides = self._table()
        if not are_confined(slides):  # a file regions.parquet may be the user's own
            return region_table((), _class_names(slides))
        return self._read(self._results.regions_parquet, region_table)

    @property
    def regions(self) -> "pd.DataFrame":
        """One row for each region of interest of the slides that are done: areas in it (mm2).

        Its columns are those of ``regions.parquet``; without regions it has no row. It is read or
        made from the results like ``slides``.

        Raises:
            StoreError: if a summary holds a value of a wrong type.
        """
        return to_frame(self.region_table())

    @property
    def reviews(self) -> "pd.DataFrame":
        """One row for each slide and reviewer: status, note, time and key of the reviewed result.

        The combined status of each slide, and the areas without the regions that reviewers leave
        out, are columns of ``slides``.

        Raises:
            StoreError: if ``review.csv`` cannot be read.
        """
        rows = Reviews(self._results, keeps_areas=False).all()
        names = ("slide_id", "reviewer", "status", "note", "time", "result")
        columns = {name: [getattr(row, name) for row in rows] for name in names}
        return to_frame(pa.table({name: pa.array(v, pa.string()) for name, v in columns.items()}))

    def _table(self) -> pa.Table:
        return self._read(self._results.cohort_parquet, cohort_table)

    def _read(self, path: Path, make: _MakeTable) -> pa.Table:
        """Read a table, or make it, with a warning, if its file is old, damaged or missing."""
        found = f"{path} is missing or older than the results"
        if self._is_current(path):
            try:
                return read_parquet(path, ["slide_id"])
            except StoreError as error:
                found = str(error)
        warnings.warn(
            f"{found}: the table was made from the results themselves, which takes longer; "
            f"'noctile table {self.path}' writes it anew",
            stacklevel=4,
        )
        standing = read_standing(self._results)
        return make(standing.rows(), standing.class_names())

    def _is_current(self, table: Path) -> bool:
        """Tell if no result, no event and no review is newer than the file of a table.

        A result that is done, replaced or deleted changes the time of the folder ``slides``, and a
        file with regions that is new or deleted that of ``review``.
        """
        found = self._results
        regions = found.review.glob("*.geojson")
        changing = (found.slides, found.ledger, found.review_csv, found.review, *regions)
        times = [_modified_ns(path) for path in (table, *changing)]
        return times[0] is not None and times[0] >= max(time or 0 for time in times)

    def _is_done(self, slide_id: str) -> bool:
        if slide_id_problem(slide_id) or self._results.slides.is_symlink():
            return False  # the name or the link may lead out of the folder
        folder = self._results.slide(slide_id)
        return folder.summary.is_file() and not folder.path.is_symlink()

    def _why_not_done(self, slide_id: str) -> str:
        """Message that says what is known of a slide without a result."""
        name = printable(slide_id)
        rows = {row["slide_id"]: row for row in self._table().to_pylist()}
        row = rows.get(slide_id)
        if row is None:
            return f"{self.path} knows no slide {name}; its {len(rows)} slides: {_some(rows)}"
        about = ": ".join(printable(row[k]) for k in ("reason", "message") if row.get(k))
        return f"slide {name} has no result, its status is {row['status']}: {about}"


def open_results(results: str | os.PathLike[str]) -> Results:
    """Open a folder of results, the ``--out`` of a run. Nothing is written to it.

    Args:
        results: path of the folder.

    Raises:
        UsageError: if there is no such folder, or it holds no results of Noctile.
    """
    folder = ResultsFolder(Path(results))
    if not folder.path.is_dir():
        raise UsageError(f"{folder.path} is no folder; name the --out of a run")
    check_holds_results(folder, folder.path)
    return Results(folder.path)


def _class_names(slides: pa.Table) -> list[str]:
    """Names of the classes that have columns in the table of slides."""
    return [name for name in map(class_of, slides.column_names) if name is not None]


def _modified_ns(path: Path) -> int | None:
    """Time of the last change of a file (ns); None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _some(names: Mapping[str, object], most: int = 8) -> str:
    """First few names of many, for a message."""
    shown = ", ".join(printable(name) for name in list(names)[:most])
    return f"{shown}, ..." if len(names) > most else shown
