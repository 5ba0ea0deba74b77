"""Table of the regions of interest of all slides: one row for each region."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from noctile.pipeline.cohort import SlideRow, filled_class
from noctile.pipeline.columns import REGION
from noctile.pipeline.errors import StoreError


def region_table(rows: Iterable[SlideRow], class_names: Sequence[str]) -> pa.Table:
    """Make the table, sorted by slide; the regions of a slide stand as in its file.

    Each field has its unit and description in its metadata.

    Args:
        rows: results of the slides, in any order; those without regions give no row.
        class_names: names of the classes; each has two columns.

    Raises:
        StoreError: if a summary holds a value of a wrong type.
    """
    pairs = [
        (row, region)
        for row in sorted(rows, key=lambda row: row.slide_id)
        for region in row.summary.get("regions", ())
    ]
    columns = [(column, [_value(*pair, column.name) for pair in pairs]) for column in REGION]
    for name in class_names:
        columns += filled_class([region for _, region in pairs], name)
    try:
        arrays = [pa.array(values, column.type) for column, values in columns]
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise StoreError(
            f"a summary.json holds regions of wrong types: {error!s:.200}; run the same command "
            "with --redo"
        ) from error
    return pa.table(arrays, pa.schema([column.field for column, _ in columns]))


def are_confined(slides: pa.Table) -> bool:
    """Tell if a slide of the table of slides has regions of interest."""
    name = "roi_area_mm2"  # tables of earlier versions lack it
    return name in slides.column_names and slides[name].null_count < slides.num_rows


def _value(row: SlideRow, region: Mapping[str, Any], name: str) -> Any:
    return getattr(row, name) if name in ("slide_id", "patient_id", "group") else region.get(name)
