"""Cells that a manifest gave, read back from a table of slides: patient, group, other columns."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from noctile.pipeline.columns import FIGURES, IDENTITY, MEASURES, ORIGIN
from noctile.pipeline.csv_cells import read_csv, unescape_cell
from noctile.pipeline.errors import StoreError
from noctile.pipeline.manifest_types import cell_text
from noctile.pipeline.parquet import read_parquet

_CSV_BYTES = 2**29
"""Largest CSV file that is read (B); 100,000 slides take 30 MB."""

_TODO = "delete it, and name the manifest again"

_MANIFEST = {"patient_id", "group"}
_NOW = {column.name for column in (*IDENTITY, *FIGURES, *MEASURES, *ORIGIN)} - _MANIFEST
_BEFORE = _NOW - {"message", "run", "qc_flags"} | {"flags", "versions"}
"""Columns that a run fills, in present tables and in those of earlier development versions."""

_CLASS = re.compile(r"class_.*_(?:area_mm2|fraction_of_tissue)", re.DOTALL)
_RENAMED = "manifest_"
"""Prefix of a column of the manifest whose name is that of a column of the tables."""

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
        for number, (slide_id, row) in enumerate(read(path), start=1):
            if not isinstance(slide_id, str) or not slide_id or slide_id in cells:
                raise ValueError(f"slide {number} has no slide_id of its own: {slide_id!r:.80}")
            cells[slide_id] = {name: cell for name, cell in row.items() if cell}
    except StoreError as error:
        raise StoreError(f"{error}; {_TODO}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error!s:.500}; {_TODO}") from error
    return cells


def _csv_rows(path: Path) -> Iterator[_Row]:
    lines = read_csv(path, _CSV_BYTES)
    header = [unescape_cell(name) for name in next(lines, [])]
    names, key = _manifest_names(header), header.index("slide_id")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise ValueError(f"slide {number} has {len(line)} cells, not {len(header)}")
        cells = dict(zip(header, map(unescape_cell, line), strict=True))
        yield unescape_cell(line[key]), {own: cells[name] for name, own in names.items()}


def _parquet_rows(path: Path) -> Iterator[_Row]:
    table = read_parquet(path, ["slide_id"])
    names = _manifest_names(table.column_names)
    for row in table.select(["slide_id", *names]).to_pylist():
        yield row["slide_id"], {own: cell_text(row[name]) for name, own in names.items()}


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
