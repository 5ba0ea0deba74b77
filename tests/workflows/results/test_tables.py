"""Tables of a run."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError
from noctile.workflows.results import tables
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.tables import write_tables


def rows(*ids: str) -> list[SlideRow]:
    return [SlideRow(i, Path(i), "skipped", "stopped") for i in ids]


def test_both_tables_have_a_row_for_each_slide_and_the_record_is_beside_them(tmp_path):
    results = ResultsFolder(tmp_path)
    write_tables(results, rows("b", "a"), ["tumor"], {"device": "cpu"})
    assert pq.read_table(results.cohort_parquet)["slide_id"].to_pylist() == ["a", "b"]
    with results.cohort_csv.open(newline="") as lines:
        assert [row["slide_id"] for row in csv.DictReader(lines)] == ["a", "b"]
    assert json.loads(results.run_json.read_text()) == {"device": "cpu"}


def test_a_table_that_cannot_be_written_leaves_all_old_ones(tmp_path, monkeypatch):
    results = ResultsFolder(tmp_path)
    write_tables(results, rows("a"), ["tumor"], {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(table, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write_csv", full)
    with pytest.raises(StoreError, match="No space left"):
        write_tables(results, rows("a", "b"), ["tumor"], {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
