"""Faults of the cohort's tables."""

import csv
import os
import shutil
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from damaged_results import faulty_files, found

from noctile.pipeline.cohort import write_csv
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.table import write_tables_anew
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.reviews import Reviews


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
    """The folder of each slide is there."""
    table = pq.read_table(damaged / "slides.parquet")
    pq.write_table(table.slice(1), damaged / "slides.parquet")
    lines = (damaged / "slides.csv").read_text().splitlines(keepends=True)
    (damaged / "slides.csv").write_text("".join([lines[0], *lines[2:]]))
    assert found(damaged) == [("slides.parquet", "has no row for a")]


def test_a_cell_that_is_not_what_the_ledger_has_is_found(damaged):
    table = pq.read_table(damaged / "slides.parquet")
    runs = pa.array(["other", *table["run"].to_pylist()[1:]], table["run"].type)
    changed = table.set_column(table.column_names.index("run"), "run", runs)
    pq.write_table(changed, damaged / "slides.parquet")
    write_csv(changed, damaged / "slides.csv")
    assert found(damaged) == [("slides.parquet", "has another run than the folder for a")]


def test_a_slide_that_was_deleted_is_done_in_the_tables_only(damaged):
    shutil.rmtree(damaged / "slides" / "a")
    assert ("slides.parquet", "has another status than the folder for a") in found(damaged)


def test_a_missing_table_is_found(damaged):
    (damaged / "slides.csv").unlink()
    assert found(damaged) == [("slides.csv", "is missing")]


def test_tables_are_not_compared_while_a_run_is_at_work(damaged):
    for name in ("slides.csv", "slides.parquet"):
        (damaged / name).unlink()
    with closing(Lease(damaged, lambda reason: None)):
        assert [file for file, _ in found(damaged) if not file.startswith("slides/")] == []
    assert [file for file, _ in found(damaged)] == ["slides.parquet", "slides.csv"]


def test_a_damaged_audit_is_found_and_a_whole_one_is_no_fault(damaged):
    open_audit(damaged, AuditRequest(points=10))
    assert found(damaged) == []
    (damaged / "audit" / ".points.1.tmp.csv").touch()
    with (damaged / "audit" / "points.csv").open("a") as file:
        file.write("p99\n")
    (left, _), (audit, what) = found(damaged)
    assert (left, audit) == ("audit/.points.1.tmp.csv", "audit")
    assert "points.csv cannot be read" in what


def test_a_slide_id_that_leads_out_of_the_folder_is_found_and_not_followed(damaged):
    table = pq.read_table(damaged / "slides.parquet")
    ids = pa.array(["../a", *table["slide_id"].to_pylist()[1:]])
    changed = table.set_column(0, "slide_id", ids)
    pq.write_table(changed, damaged / "slides.parquet")
    write_csv(changed, damaged / "slides.csv")
    assert found(damaged) == [
        ("slides.parquet", "has a slide_id that cannot name a folder"),
        ("slides.parquet", "has no row for a"),
    ]


def test_a_table_without_the_status_of_slides_is_found(damaged):
    table = pq.read_table(damaged / "slides.parquet").drop_columns("status")
    pq.write_table(table, damaged / "slides.parquet")
    assert found(damaged) == [("slides.parquet", "cannot be read: it has no column status")]


def test_a_csv_file_with_a_cell_of_300_kb_is_found(damaged):
    with (damaged / "slides.csv").open("a") as file:
        file.write("m" * 300_000)
    ((name, what),) = found(damaged)
    assert name == "slides.csv, slides.parquet"
    assert "it is no CSV file: field larger than field limit" in what


def test_a_csv_file_that_is_far_larger_than_its_table_is_found(damaged):
    with (damaged / "slides.csv").open("r+b") as file:
        file.truncate(2**42)
    ((_, what),) = found(damaged)
    assert "It has more than" in what


def test_a_csv_file_that_is_a_pipe_is_found(damaged):
    (damaged / "slides.csv").unlink()
    os.mkfifo(damaged / "slides.csv")
    ((_, what),) = found(damaged)
    assert "It is a pipe or a device" in what


def test_reviews_are_no_fault_if_the_tables_have_them(damaged):
    reviews = Reviews(ResultsFolder(damaged))
    reviews.save("a", "ada", "accepted", "", "")
    reviews.save_regions("b", "ada", [square(40)], "")
    old = [what for _, what in found(damaged)]
    assert "has another review_status than the folder for a" in old
    assert "has another excluded_area_mm2 than the folder for b" in old
    write_tables_anew(damaged, None)
    assert found(damaged) == []


def test_damaged_reviews_and_files_of_a_killed_save_are_found(damaged):
    (damaged / "review").mkdir()
    (damaged / "review" / "a.geojson").write_text("{")
    (damaged / "review" / ".b.77.tmp.geojson").touch()
    left, damage = sorted(found(damaged), reverse=True)
    assert left == ("review/.b.77.tmp.geojson", "was left by a writer that was killed")
    assert damage[0] == "review"
    assert "a.geojson cannot be read" in damage[1]
    (damaged / "review" / "a.geojson").unlink()
    write_tables_anew(damaged, None)
    assert found(damaged) == []


def test_a_cache_of_measures_that_a_killed_writer_left_is_found(damaged):
    (damaged / ".measures").mkdir()
    (damaged / ".measures" / ".a.77.tmp.json").touch()
    assert found(damaged) == [
        (".measures/.a.77.tmp.json", "was left by a writer that was killed"),
    ]


def square(side):
    ring = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"classification": {"name": "pen"}}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
