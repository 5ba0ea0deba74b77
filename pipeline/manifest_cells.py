"""Cells that a manifest gave, read back from a table of slides: patient, group, other columns."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noctile.pipeline.columns import FIGURES, IDENTITY, ORIGIN
from noctile.pipeline.csv_cells import unescape_cell
from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import read_bytes

_MAX_BYTES, _MAX_CELLS = 2**30, 2**26
"""Largest size of a table (B), and most cells that are read from a Parquet file: a million slides
have 70 of them each."""

_MANIFEST = {"patient_id", "group"}
_NOW = {column.name for column in (*IDENTITY, *FIGURES, *ORIGIN)} - _MANIFEST
_BEFORE = _NOW - {"message", "run", "qc_flags"} | {"flags", "versions"}
"""Columns that a run fills, in tables of today and in those of development versions before."""

_CLASS = re.compile(r"class_.*_(?:area_mm2|fraction_of_tissue)", re.DOTALL)
_RENAMED = "manifest_"
"""Start of the name of a column whose own name a run fills."""

_Row = tuple[Any, dict[str, str]]
"""Id of a slide, and its other cells by column."""


def manifest_cells(path: Path) -> dict[str, dict[str, str]]:
    """Read the manifest's cells of each slide from ``slides.parquet`` or ``slides.csv``.

    The table may come from an earlier version. A CSV file has the cells as the manifest wrote
    them, a Parquet file the text of its values.

    Returns:
        the filled cells by column, by slide_id: ``patient_id``, ``group``, and the other columns
        under the names that the manifest gave them.

    Raises:
        StoreError: if the table cannot be read, or a row has no slide_id of its own.
    """
    read = _parquet_rows if path.suffix == ".parquet" else _csv_rows
    cells: dict[str, dict[str, str]] = {}
    try:
        for number, (slide_id, row) in enumerate(read(read_bytes(path, _MAX_BYTES)), start=1):
            if not slide_id or slide_id in cells:
                raise ValueError(f"slide {number} has no slide_id of its own: {slide_id!r:.80}")
            cells[str(slide_id)] = {name: cell for name, cell in row.items() if cell}
    except (pa.ArrowException, csv.Error, OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read: {error!s:.500}; delete it, and name the manifest again"
        ) from error
    return cells


def _csv_rows(content: bytes) -> Iterator[_Row]:
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = [unescape_cell(name) for name in next(lines, [])]
    names, key = _manifest_names(header), header.index("slide_id")
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"line {lines.line_num} has {len(line)} cells, not {len(header)}")
        cells = dict(zip(header, map(unescape_cell, line), strict=True))
        yield unescape_cell(line[key]), {own: cells[name] for name, own in names.items()}


def _parquet_rows(content: bytes) -> Iterator[_Row]:
    file = pq.ParquetFile(pa.BufferReader(content))
    names = _manifest_names(file.schema_arrow.names)
    if file.metadata.num_rows * (len(names) + 1) > _MAX_CELLS:
        raise ValueError(f"it has {file.metadata.num_rows} rows of {len(names)} cells")
    table = file.read(columns=["slide_id", *names])
    for row in table.to_pylist():
        yield row["slide_id"], {own: _text(row[name]) for name, own in names.items()}


def _text(value: Any) -> str:
    """Text of a value as a manifest may write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _manifest_names(header: Sequence[str]) -> dict[str, str]:
    """Columns that came from a manifest, and the names that they had there."""
    before = {"flags", "versions"} <= set(header) and "qc_flags" not in header
    filled = _BEFORE if before else _NOW
    own = (name for name in header if name not in filled and not _CLASS.fullmatch(name))
    return {name: _own_name(name, filled | _MANIFEST) for name in own}


def _own_name(name: str, taken: Iterable[str]) -> str:
    short = name
    while short.startswith(_RENAMED) and short not in taken:
        short = short.removeprefix(_RENAMED)
    return short if short in taken else name
