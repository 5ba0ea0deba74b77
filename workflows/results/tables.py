"""Tables of a folder of results: one row for every slide that stands in it, and every region."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.columns import describe_columns
from noctile.pipeline.region_table import region_table
from noctile.workflows.results.files import json_text, read_whole_json, write_together
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.standing import Standing

_PAUSE = 50
"""Shortest pause between two writings of the tables while a run is at work, as a multiple of the
duration of the last one. Writing takes at most 2 % of the time of the run's own process."""


class Tables:
    """Writer of ``slides.csv``, ``slides.parquet`` and ``columns.json``.

    Where a slide has regions of interest, or had some before, it writes ``regions.csv`` and
    ``regions.parquet`` too.

    Args:
        results: folder of results.
        standing: slides that stand in it.
    """

    def __init__(self, results: ResultsFolder, standing: Standing) -> None:
        self._results, self._standing = results, standing
        self._due = 0.0

    def write(self) -> None:
        """Replace all of them, or none.

        Raises:
            StoreError: if the file system refuses.
        """
        begun = time.monotonic()
        results, rows, names = self._results, self._standing.rows(), self._standing.class_names()
        table, cells = cohort_table(rows, names), cohort_table(rows, names, typed=False)
        regions = _regions(results, rows, names)
        columns = json_text(describe_columns(table, regions))
        write_together(
            {
                results.cohort_parquet: partial(_write_parquet, table),
                results.cohort_csv: lambda p: write_csv(cells, p),
                results.columns_json: lambda p: p.write_text(columns, encoding="utf-8"),
                **_region_writers(results, regions),
            }
        )
        now = time.monotonic()
        self._due = now + _PAUSE * (now - begun)

    def write_if_due(self) -> None:
        """Replace them if that costs little of the time since the last replacement.

        Raises:
            StoreError: if the file system refuses.
        """
        if time.monotonic() >= self._due:
            self.write()


def _regions(
    results: ResultsFolder, rows: Sequence[SlideRow], names: Sequence[str]
) -> pa.Table | None:
    """Table of the regions of interest; None if there are none, and no earlier table of them."""
    has_regions = any(row.summary.get("regions") for row in rows)
    return region_table(rows, names) if has_regions or _had_regions(results) else None


def _had_regions(results: ResultsFolder) -> bool:
    """Tell if Noctile has written a table of regions; ``columns.json`` describes only its own."""
    tables = results.regions_parquet, results.regions_csv
    if not any(path.exists() for path in tables):
        return False
    described = read_whole_json(results.columns_json)
    if described is None:
        return results.regions_parquet.exists()
    return "regions" in described


def _region_writers(
    results: ResultsFolder, regions: pa.Table | None
) -> dict[Path, Callable[[Path], object]]:
    if regions is None:
        return {}
    return {
        results.regions_parquet: partial(_write_parquet, regions),
        results.regions_csv: partial(write_csv, regions),
    }


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
