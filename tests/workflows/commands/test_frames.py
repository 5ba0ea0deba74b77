"""Tables of results as DataFrames."""

import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noctile.pipeline.columns import CATEGORY, FLAGS
from noctile.pipeline.errors import StoreError
from noctile.workflows.commands import frames
from noctile.workflows.commands.frames import read_table, to_frame


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


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_table_is_named(content, tmp_path):
    path = tmp_path / "slides.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"slides\.parquet cannot be read"):
        read_table(path)


def test_a_small_file_with_too_many_rows_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "slides.parquet"
    pq.write_table(pa.table({"slide_id": ["a"] * 100}), path)
    assert read_table(path).num_rows == 100
    monkeypatch.setattr(frames, "_TABLE_ROWS", 99)
    with pytest.raises(StoreError, match="more than 99 rows"):
        read_table(path)
