"""Tables of results as pandas DataFrames."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noctile.pipeline.columns import BOOLEAN, FLAGS, INTEGER
from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import read_bytes

_TABLE_BYTES, _TABLE_ROWS = 2**28, 2**24
"""Largest table that is read: size of the file (B) and number of rows. 100,000 slides take 30 MB,
and a slide of 200,000 x 100,000 px has 40,000 tiles."""

_NULLABLE = {INTEGER: pd.Int64Dtype(), BOOLEAN: pd.BooleanDtype()}
"""pandas types that keep integers and booleans as they are in columns with missing values."""


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file, which may come from another person.

    Raises:
        StoreError: if it cannot be read, is no Parquet file, or is too large.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(read_bytes(path, _TABLE_BYTES)))
        if file.metadata.num_rows > _TABLE_ROWS:
            raise ValueError(f"it has more than {_TABLE_ROWS} rows")
        return file.read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert a table to a DataFrame, with the types that the table has.

    Integers and booleans stay what they are if cells are missing, dates become ``datetime64``,
    categories categorical, and lists of text Python lists.
    """
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get, date_as_object=False)
    for field in table.schema:
        if field.type == FLAGS:
            frame[field.name] = frame[field.name].map(list, na_action="ignore")
    return frame
