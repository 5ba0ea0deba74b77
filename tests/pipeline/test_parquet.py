"""Parquet tables within limits."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noctile.pipeline import parquet
from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.errors import StoreError
from noctile.pipeline.parquet import read_parquet


def test_a_table_of_slides_is_read_as_it_was_written(tmp_path):
    summary = {"qc_flags": ["a", "b"], "class_area_mm2": {"t": 1.0}, "mpp": [0.5, 0.5]}
    extra = (("age", "61"), ("seen", "2026-11-29"), ("alive", "true"), ("note", "x"))
    rows = [
        SlideRow("a", Path("a"), "done", extra=extra, summary=summary),
        SlideRow("b", Path("b"), "skipped"),
    ]
    table = cohort_table(rows, ["t"])
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    found = read_parquet(tmp_path / "t.parquet", ["slide_id"])
    assert found.equals(table)
    assert found.schema.equals(table.schema, check_metadata=False)


def test_a_table_without_rows_is_read(tmp_path):
    pq.write_table(cohort_table([], ["t"]), tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet").num_rows == 0


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_table_is_named(content, tmp_path):
    path = tmp_path / "slides.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"slides\.parquet cannot be read"):
        read_parquet(path)


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "t.parquet")
    with pytest.raises(StoreError, match="It is a pipe or a device"):
        read_parquet(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("limit", "most", "message"),
    [
        ("MAX_ROWS", 99, "it has 100 rows, more than 99"),
        ("MAX_CELLS", 299, "it has 300 cells, more than 299"),
        ("MAX_DECODED_BYTES", 100 * (1 + 100 + 8) - 1, "its columns take more than"),
        ("MAX_DECODED_BYTES", 99, "more than 99 bytes when it is decompressed"),
        ("MAX_BYTES", 99, "It has more than 99 bytes"),
    ],
)
def test_a_table_beyond_a_limit_is_refused(tmp_path, monkeypatch, limit, most, message):
    path = tmp_path / "t.parquet"
    columns = {"id": ["a"] * 100, "text": ["m" * 100] * 100, "n": range(100)}
    pq.write_table(pa.table(columns), path)
    assert read_parquet(path).num_rows == 100
    monkeypatch.setattr(parquet, limit, most)
    with pytest.raises(StoreError, match=message):
        read_parquet(path)


@pytest.mark.parametrize(
    "kind", [pa.struct({"a": pa.int64()}), pa.list_(pa.list_(pa.string())), pa.binary()], ids=str
)
def test_a_column_of_another_type_is_refused(tmp_path, kind):
    pq.write_table(pa.table({"x": pa.array([None], kind)}), tmp_path / "t.parquet")
    with pytest.raises(StoreError, match="its column 'x' has the type"):
        read_parquet(tmp_path / "t.parquet")


def test_a_column_that_is_missing_is_named(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "t.parquet")
    with pytest.raises(StoreError, match="it has no column slide_id"):
        read_parquet(tmp_path / "t.parquet", ["slide_id"])


def test_two_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.table([[1], [2]], ["x", "x"]), tmp_path / "t.parquet")
    with pytest.raises(StoreError, match="two of its columns have the same name"):
        read_parquet(tmp_path / "t.parquet")
