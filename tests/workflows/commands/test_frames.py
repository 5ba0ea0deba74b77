"""Tables of results as DataFrames."""

import datetime

import pandas as pd
import pyarrow as pa

from noctile.pipeline.columns import CATEGORY, FLAGS
from noctile.workflows.commands.frames import to_frame


def test_cells_keep_their_types_where_some_are_missing():
    table = pa.table(
        {
            "foci": pa.array([3, None]),
            "consent": pa.array([True, None]),
            "seen": pa.array([datetime.date(2026, 11, 29), None]),
            "group": pa.array(["A", None], CATEGORY),
            "flags": pa.array([["blurred", "seams"], None], FLAGS),
        }
    )
    frame = to_frame(table)
    assert frame["foci"].dtype == pd.Int64Dtype()
    assert frame["consent"].dtype == pd.BooleanDtype()
    assert frame["seen"][0] == pd.Timestamp("2026-11-29")
    assert frame["group"].dtype == "category"
    assert frame["flags"][0] == ["blurred", "seams"]
    assert frame.iloc[1].isna().all()
