"""Faults of the cohort's tables."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from damaged_results import check, delete_checksums, faulty_files, found, found_without_checksums

from noctile.pipeline.cohort import write_csv


def rewrite(path: Path, slide_id: str, column: str, cell: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    next(row for row in rows if row["slide_id"] == slide_id)[column] = cell
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_a_changed_cell_of_the_csv_file_is_found(damaged):
    rewrite(damaged / "slides.csv", "b", "tumor_area_mm2", "7")
    assert found(damaged) == [("slides.csv", "differs from slides.parquet in the row for b")]


def test_a_truncated_csv_file_is_found(damaged):
    lines = (damaged / "slides.csv").read_text().splitlines(keepends=True)
    (damaged / "slides.csv").write_text("".join(lines[:-1]))
    assert found(damaged) == [("slides.csv", "has no row for glass, in contrast to slides.parquet")]


def test_a_truncated_parquet_file_is_found(damaged):
    (damaged / "slides.parquet").write_bytes((damaged / "slides.parquet").read_bytes()[:-100])
    assert faulty_files(damaged) == ["slides.parquet"]


def test_a_figure_that_differs_from_the_summary_is_found(damaged):
    table = pq.read_table(damaged / "slides.parquet")
    rows = table.to_pylist()
    rows[0]["tissue_area_mm2"] += 0.5
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), damaged / "slides.parquet")
    (slide, what), (text, _) = sorted(found(damaged), reverse=True)
    assert (slide, text) == ("slides.parquet", "slides.csv")
    assert "tissue_area_mm2" in what
    assert "for a" in what


def test_rows_that_are_missing_in_both_tables_are_found(damaged):
    """The run recorded the number of its slides, and the folder of each slide is there."""
    table = pq.read_table(damaged / "slides.parquet")
    pq.write_table(table.slice(1), damaged / "slides.parquet")
    lines = (damaged / "slides.csv").read_text().splitlines(keepends=True)
    (damaged / "slides.csv").write_text("".join([lines[0], *lines[2:]]))
    result = check(damaged)
    assert [fault.file for fault in result.tables] == ["slides.parquet"]
    assert "2 done, 1 failed, but the run recorded 3 done, 1 failed" in result.tables[0].what
    assert result.unlisted == ("a",)


def test_a_missing_table_is_found(damaged):
    (damaged / "slides.csv").unlink()
    assert found(damaged) == [("slides.csv", "is missing")]


def test_tables_are_not_missed_before_the_end_of_a_run(damaged):
    for name in ("slides.csv", "slides.parquet", "run.json"):
        (damaged / name).unlink()
    assert found(damaged) == []


def test_tables_and_summaries_of_earlier_versions_are_read(damaged):
    """They have the flags as a text with semicolons, in a column of that name."""
    summary_file = damaged / "slides" / "a" / "summary.json"
    summary = json.loads(summary_file.read_text())
    summary["flags"] = summary.pop("qc_flags")
    summary_file.write_text(json.dumps(summary))
    delete_checksums(damaged)
    table = pq.read_table(damaged / "slides.parquet")
    index = table.column_names.index("qc_flags")
    flags = [";".join(flags or ()) for flags in table["qc_flags"].to_pylist()]
    table = table.set_column(index, "flags", pa.array(flags)).drop_columns(["message", "run"])
    pq.write_table(table, damaged / "slides.parquet")
    write_csv(table, damaged / "slides.csv")
    assert found_without_checksums(damaged) == []


def test_numbers_of_the_manifest_are_compared_by_their_value(damaged):
    table = pq.read_table(damaged / "slides.parquet")
    cells = ["0,50", "2", "3,0", "+4"]
    values = pa.array([0.5, 2.0, 3.0, 4.0])
    pq.write_table(table.append_column("dose", values), damaged / "slides.parquet")
    write_csv(table.append_column("dose", pa.array(cells)), damaged / "slides.csv")
    assert found(damaged) == []
    cells[1] = "2,5"
    write_csv(table.append_column("dose", pa.array(cells)), damaged / "slides.csv")
    assert found(damaged) == [("slides.csv", "differs from slides.parquet in the row for b")]
