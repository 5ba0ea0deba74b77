"""Tables of a folder of results, written anew."""

import json
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.table import write_tables_anew
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.ledger import Ledger

TABLES = ("slides.csv", "slides.parquet", "columns.json")


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def rows(out: Path) -> dict[str, dict]:
    return {r["slide_id"]: r for r in pq.read_table(out / "slides.parquet").to_pylist()}


def test_lost_tables_are_written_as_the_run_wrote_them(damaged):
    before = contents(damaged)
    for name in TABLES:
        (damaged / name).unlink()
    result = write_tables_anew(damaged, None)
    assert contents(damaged) == before
    assert result.counts == {"done": 3, "failed": 1}


def test_cells_of_a_manifest_are_added_and_others_stay(damaged, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("slide,patient_id,stage\na,P1,2\nb,P2,\nnobody,P3,1\n")
    result = write_tables_anew(damaged, manifest)
    assert result.matched == 2
    assert len(result.unmatched) == 1
    assert "nobody is not there" in result.unmatched[0]
    manifest.write_text("slide,patient_id,stage\na,,3\n")
    write_tables_anew(damaged, manifest)
    found = rows(damaged)
    assert (found["a"]["patient_id"], found["a"]["stage"]) == ("P1", 3)
    assert (found["b"]["patient_id"], found["b"]["stage"]) == ("P2", None)


def test_a_path_that_was_left_out_stays_so_and_takes_cells(damaged, tmp_path):
    with closing(Ledger(damaged / "ledger.jsonl")) as ledger:
        ledger.left_out("dangling", "/archive/dangling.tif", "broken_link: it leads nowhere", "R1")
    (tmp_path / "m.csv").write_text("slide_id,patient_id\ndangling,P9\n")
    write_tables_anew(damaged, tmp_path / "m.csv")
    row = rows(damaged)["dangling"]
    found = [row[name] for name in ("status", "reason", "path", "run", "patient_id")]
    assert found == ["skipped", "broken_link", "/archive/dangling.tif", "R1", "P9"]


def test_a_folder_of_an_earlier_version_keeps_its_paths_and_cells(damaged):
    """Its ledger has no event that names a slide's path; its tables have the cells as text."""
    lines = (damaged / "ledger.jsonl").read_text().splitlines(keepends=True)
    old = [line for line in lines if json.loads(line)["event"] != "slide"]
    (damaged / "ledger.jsonl").write_text("".join(old))
    before = rows(damaged)
    table = pq.read_table(damaged / "slides.parquet")
    patients = pa.array([f"P{n}" for n in range(len(table))])
    index = table.column_names.index("patient_id")
    table = table.set_column(index, "patient_id", patients).append_column("age", patients)
    pq.write_table(table, damaged / "slides.parquet")
    write_tables_anew(damaged, None)
    after = rows(damaged)
    assert {i: row["path"] for i, row in after.items()} == {
        i: row["path"] for i, row in before.items()
    }
    assert [row["age"] for row in after.values()] == [row["patient_id"] for row in after.values()]
    assert after["a"]["patient_id"] == "P0"
    assert "Report of" in (damaged / "index.html").read_text(encoding="utf-8")


def test_an_id_of_an_earlier_table_that_leads_out_of_the_folder_is_left_out(damaged):
    lines = (damaged / "ledger.jsonl").read_text().splitlines(keepends=True)
    old = [line for line in lines if json.loads(line)["event"] != "slide"]
    (damaged / "ledger.jsonl").write_text("".join(old))
    table = pq.read_table(damaged / "slides.parquet")
    ids = pa.array(["../../x", *table["slide_id"].to_pylist()[1:]])
    pq.write_table(table.set_column(0, "slide_id", ids), damaged / "slides.parquet")
    write_tables_anew(damaged, None)
    assert "../../x" not in rows(damaged)
    assert "../../x" not in (damaged / "ledger.jsonl").read_text()


def test_a_folder_that_a_run_holds_or_without_results_is_refused(damaged, tmp_path):
    with (
        closing(Lease(damaged, lambda reason: None)),
        pytest.raises(UsageError, match="another run"),
    ):
        write_tables_anew(damaged, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no results"):
        write_tables_anew(tmp_path / "empty", None)
    assert list((tmp_path / "empty").iterdir()) == []


def test_reviews_that_people_wrote_are_in_the_tables(damaged):
    (damaged / "review.csv").write_text(
        "slide_id,reviewer,status,note\na,=eve,rejected,<script>alert(1)</script>\n"
        "nobody,ada,accepted,\n"
    )
    (damaged / "review").mkdir()
    (damaged / "review" / "b.geojson").write_text("{")
    result = write_tables_anew(damaged, None)
    assert rows(damaged)["a"]["review_status"] == "rejected"
    assert rows(damaged)["b"]["review_status"] is None
    assert "'=eve" in (damaged / "slides.csv").read_text()
    assert result.reviews == {"rejected": 1}
    damage, unknown = result.review_faults
    assert "b.geojson cannot be read" in damage
    assert unknown == f"{damaged} has reviews of slides that it does not know: nobody"
