"""Tables of a folder of results: one row for every slide that stands in it."""

import time

import pyarrow.parquet as pq

from noctile.pipeline.cohort import cohort_table, write_csv
from noctile.pipeline.columns import describe_columns
from noctile.workflows.results.files import json_text, write_together
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.standing import Standing

_PAUSE = 50
"""Shortest pause between two writings of the tables while a run is at work, as a multiple of the
duration of the last one. Writing takes at most 2 % of the time of the run's own process."""


class Tables:
    """Writer of ``slides.csv``, ``slides.parquet`` and ``columns.json``.

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
        columns = json_text(describe_columns(table))
        write_together(
            {
                results.cohort_parquet: lambda p: pq.write_table(table, p, compression="zstd"),
                results.cohort_csv: lambda p: write_csv(cells, p),
                results.columns_json: lambda p: p.write_text(columns, encoding="utf-8"),
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
