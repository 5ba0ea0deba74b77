"""Tables of a run: one row for each slide, and the record of the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.columns import describe_columns
from noctile.workflows.results.files import json_text, write_together
from noctile.workflows.results.layout import ResultsFolder


def write_tables(
    results: ResultsFolder,
    rows: Sequence[SlideRow],
    class_names: Sequence[str],
    record: Mapping[str, Any],
) -> None:
    """Replace the tables of the run before: all of them, or none.

    Args:
        results: folder of results.
        rows: one row for each slide.
        class_names: names of the classes; each has two columns.
        record: contents of ``run.json``.

    Raises:
        StoreError: if the file system refuses.
    """
    table, text = cohort_table(rows, class_names), json_text(record)
    columns = json_text(describe_columns(table))
    cells = cohort_table(rows, class_names, typed=False)
    write_together(
        {
            results.cohort_parquet: lambda p: pq.write_table(table, p, compression="zstd"),
            results.cohort_csv: lambda p: write_csv(cells, p),
            results.columns_json: lambda p: p.write_text(columns, encoding="utf-8"),
            results.run_json: lambda p: p.write_text(text, encoding="utf-8"),
        }
    )
