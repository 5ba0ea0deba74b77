"""Tables of a folder of results."""

import csv

import pyarrow.parquet as pq
import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.results import tables
from noctile.workflows.results.events import Started
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger_state import LedgerState
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables

T = "2026-11-29T00:00:00.000+00:00"


def named(state: LedgerState, *slides: str) -> None:
    """Note a call that names some slides."""
    state.take(Started(T, "run", slides, "k", "r"))


def writer(folder) -> tuple[ResultsFolder, Tables, LedgerState]:
    results, state = ResultsFolder(folder), LedgerState()
    return results, Tables(results, Standing(results, state)), state


def test_both_tables_have_a_row_for_each_slide(tmp_path):
    results, table, state = writer(tmp_path)
    named(state, "b", "a")
    table.write()
    assert pq.read_table(results.cohort_parquet)["slide_id"].to_pylist() == ["a", "b"]
    with results.cohort_csv.open(newline="") as lines:
        assert [row["slide_id"] for row in csv.DictReader(lines)] == ["a", "b"]


def test_a_table_that_cannot_be_written_leaves_both_old_ones(tmp_path, monkeypatch):
    _, table, state = writer(tmp_path)
    named(state, "a")
    table.write()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(table, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write_csv", full)
    named(state, "a", "b")
    with pytest.raises(StoreError, match="No space left"):
        table.write()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_while_a_run_is_at_work_tables_take_a_small_part_of_its_time(tmp_path, monkeypatch):
    results, table, state = writer(tmp_path)
    clock = iter([0.0, 1.0, 50.0, 51.0, 51.0, 52.0])  # the first writing takes 1 s
    monkeypatch.setattr(tables.time, "monotonic", lambda: next(clock))
    named(state, "a")
    table.write()
    named(state, "a", "b")
    table.write_if_due()
    assert pq.read_table(results.cohort_parquet).num_rows == 1
    table.write_if_due()
    assert pq.read_table(results.cohort_parquet).num_rows == 2


def test_a_table_of_regions_that_noctile_has_not_written_stays(tmp_path):
    results, table, state = writer(tmp_path)
    named(state, "a")
    table.write()  # columns.json describes no regions
    for path in (results.regions_parquet, results.regions_csv):
        path.write_text("mine")
    table.write()
    assert results.regions_parquet.read_text() == results.regions_csv.read_text() == "mine"
