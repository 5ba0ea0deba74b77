"""Parquet tables of other people, read within limits on time and memory.

A small file can hold a table that fills the memory. A text or a run of values is stored once for
all rows, and a page of equal bytes is compressed to nearly nothing.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import read_bytes

MAX_BYTES = 2**28
"""Largest file (B); a table of 100,000 slides takes 10 MB."""

MAX_ROWS, MAX_CELLS = 2**20, 2**26
"""Most rows, and most cells with those of lists. A slide of 200,000 x 100,000 px has 40,000 tiles,
and 900,000 slides have 70 cells each."""

MAX_DECODED_BYTES = 2**30
"""Most bytes that all columns take, with each text as often as it occurs."""

_BATCH_ROWS = 2**14
"""Rows that are measured at a time."""


def read_parquet(path: Path, columns: Iterable[str] = ()) -> pa.Table:
    """Read a table.

    Args:
        path: path of the file.
        columns: names of the columns that it must have.

    Raises:
        StoreError: if it cannot be read, is no regular file, is too large, lacks a column or has
            columns of other types than numbers, dates, text and lists of text.
    """
    try:
        content = pa.py_buffer(read_bytes(path, MAX_BYTES))
        file = pq.ParquetFile(pa.BufferReader(content))
        _check_shape(file)
        _check_types(file.schema_arrow, columns)
        _check_decoded(content, file)
        return file.read()
    except (OSError, ValueError, LookupError, TypeError, MemoryError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error!s:.500}") from error


def _check_shape(file: pq.ParquetFile) -> None:
    """Check the sizes that the file's own metadata state."""
    about = file.metadata
    chunks = [
        about.row_group(group).column(column)
        for group in range(about.num_row_groups)
        for column in range(about.num_columns)
    ]
    if about.num_rows > MAX_ROWS:
        raise ValueError(f"it has {about.num_rows} rows, more than {MAX_ROWS}")
    if (cells := sum(chunk.num_values for chunk in chunks)) > MAX_CELLS:
        raise ValueError(f"it has {cells} cells, more than {MAX_CELLS}")
    if sum(chunk.total_uncompressed_size for chunk in chunks) > MAX_DECODED_BYTES:
        raise ValueError(f"it has more than {MAX_DECODED_BYTES} bytes when it is decompressed")


def _check_types(schema: pa.Schema, columns: Iterable[str]) -> None:
    for field in schema:
        kind = field.type
        if pa.types.is_list(kind) or pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or _is_text(kind)):
            raise ValueError(f"its column {field.name!r:.80} has the type {field.type!s:.80}")
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("two of its columns have the same name")
    if missing := set(columns) - set(schema.names):
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_decoded(content: pa.Buffer, file: pq.ParquetFile) -> None:
    """Check the size of all columns; each text is decoded once and counted for every row."""
    leaves = (file.schema.column(number) for number in range(len(file.schema)))
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    encoded = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
    left = MAX_DECODED_BYTES
    for batch in encoded.iter_batches(_BATCH_ROWS):
        left -= sum(map(_decoded_bytes, batch.columns))
        if left < 0:
            raise ValueError(f"its columns take more than {MAX_DECODED_BYTES} bytes")


def _decoded_bytes(column: pa.Array) -> int:
    if pa.types.is_list(column.type):
        return int(column.nbytes) + _decoded_bytes(column.flatten())
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.fill_null(pc.binary_length(column.dictionary), 0).cast(pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
