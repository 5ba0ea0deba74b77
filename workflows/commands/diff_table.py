"""Table of a comparison: one row for each slide of both folders, largest change first."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noctile.pipeline.cohort import write_csv
from noctile.pipeline.columns import describe_columns
from noctile.pipeline.diff_columns import COMPARED, diff_columns
from noctile.pipeline.errors import StoreError
from noctile.workflows.results.files import json_text, write_together

Row = dict[str, Any]

CSV, PARQUET, COLUMNS = "diff.csv", "diff.parquet", "diff_columns.json"
"""Names of the files of the table."""


def diff_table(rows: Iterable[Row]) -> pa.Table:
    """Make the table. A figure of a slide that was not compared is null.

    Args:
        rows: values of each slide by the name of their column; ``classes`` has the figures of each
            common class.

    Raises:
        StoreError: if a change map holds a value of a wrong type.
    """
    ordered = sorted(rows, key=_by_change)
    flat = [_flat(row) for row in ordered]
    columns = diff_columns(common_classes(ordered))
    try:
        arrays = [pa.array([row.get(c.name) for row in flat], c.type) for c in columns]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise StoreError(
            f"a summary of the comparison is damaged: {error!s:.200}; compare into another --out"
        ) from error
    return pa.table(arrays, pa.schema([column.field for column in columns]))


def common_classes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the classes that both sides have in some slide, in the order of their first use."""
    return list(dict.fromkeys(name for row in rows for name in row.get("classes") or ()))


def _by_change(row: Row) -> tuple[bool, float, str]:
    """Sort key: compared slides first, the largest difference of tumor area first."""
    change = abs(row.get("tumor_area_difference_mm2") or 0.0)
    return row["status"] != COMPARED, -change, row["slide_id"]


def _flat(row: Row) -> Row:
    """Row with the figures of each class under the names of their columns; "" becomes null."""
    classes = {
        f"class_{name}_{figure}": value
        for name, figures in (row.get("classes") or {}).items()
        for figure, value in figures.items()
    }
    return {name: None if v == "" else v for name, v in {**row, **classes}.items()}


def write_diff_table(table: pa.Table, out: Path) -> None:
    """Write ``diff.csv``, ``diff.parquet`` and ``diff_columns.json``, all of them or none.

    Raises:
        StoreError: if the file system refuses.
    """
    columns = json_text(describe_columns(table))
    write_together(
        {
            out / PARQUET: partial(pq.write_table, table, compression="zstd"),
            out / CSV: partial(write_csv, table),
            out / COLUMNS: partial(Path.write_text, data=columns, encoding="utf-8"),
        }
    )
