"""Tables of results as pandas DataFrames."""

from typing import TYPE_CHECKING

import pyarrow as pa

from noctile.pipeline.columns import BOOLEAN, FLAGS, INTEGER

if TYPE_CHECKING:
    import pandas as pd


def to_frame(table: pa.Table) -> "pd.DataFrame":
    """Convert a table to a DataFrame, with the types that the table has.

    Integers and booleans stay what they are if cells are missing, dates become ``datetime64``,
    categories categorical, and lists of text Python lists.
    """
    import pandas as pd  # noqa: PLC0415 - slow to load, and commands need no frame

    # these types keep integers and booleans as they are in columns with missing values
    nullable = {INTEGER: pd.Int64Dtype(), BOOLEAN: pd.BooleanDtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get, date_as_object=False)
    for field in table.schema:
        if field.type == FLAGS:
            frame[field.name] = frame[field.name].map(list, na_action="ignore")
    return frame
