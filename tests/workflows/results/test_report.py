"""Report of a folder of results."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.errors import StoreError
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.report import Report, is_report, write_report

SUMMARY = {"class_area_mm2": {}, "tissue_area_mm2": 4.0, "tumor_area_mm2": 1.0, "qc_flags": []}


@pytest.fixture
def results(tmp_path) -> ResultsFolder:
    """Two slides that are done, and one that failed."""
    results = ResultsFolder(tmp_path / "results")
    for slide_id, color in (("a", "red"), ("b", "blue")):
        folder = results.slide(slide_id)
        folder.path.mkdir(parents=True)
        Image.new("RGB", (400, 200), color).save(folder.preview)
    pq.write_table(table(results), results.cohort_parquet)
    return results


def table(results: ResultsFolder) -> pa.Table:
    done = [SlideRow(i, results.path / i, "done", summary=SUMMARY) for i in ("a", "b")]
    bad = SlideRow("bad", results.path / "bad", "failed", "unopenable", "no reader opens it")
    return cohort_table([*done, bad], [])


def test_page_and_pictures_are_written(results):
    assert Report(results).write() == ""
    assert "no reader opens it" in results.index.read_text(encoding="utf-8")
    assert sorted(p.name for p in results.index_files.iterdir()) == ["a.jpg", "b.jpg"]
    assert is_report(results.index)


def test_only_pictures_of_changed_slides_are_made(results):
    Report(results).write()
    before = {p.name: p.stat().st_mtime_ns for p in results.index_files.iterdir()}
    Image.new("RGB", (500, 200), "green").save(results.slide("b").preview)
    Report(results).write()
    after = {p.name: p.stat().st_mtime_ns for p in results.index_files.iterdir()}
    assert before["a.jpg"] == after["a.jpg"]
    assert before["b.jpg"] != after["b.jpg"]


@pytest.mark.parametrize("kind", ["page", "link", "folder", "file for a folder"])
def test_files_of_others_stay(results, tmp_path, kind):
    (tmp_path / "mine.html").write_text("mine")
    if kind == "page":
        results.index.write_text("<h1>mine</h1>")
    elif kind == "link":
        results.index.symlink_to(tmp_path / "mine.html")
    elif kind == "folder":
        results.index.mkdir()
    else:
        results.index_files.write_text("mine")
    with pytest.raises(StoreError, match="move it away"):
        write_report(results, table(results), None)
    assert "move it away" in Report(results).write()
    assert (tmp_path / "mine.html").read_text() == "mine"
    if kind == "page":
        assert results.index.read_text() == "<h1>mine</h1>"


def test_a_picture_of_others_stays(results):
    results.index_files.mkdir()
    (results.index_files / "a.jpg").write_bytes(b"mine")
    assert Report(results).write() == ""
    assert (results.index_files / "a.jpg").read_bytes() == b"mine"
    assert "index_files/a.jpg" not in results.index.read_text(encoding="utf-8")


def test_damaged_files_leave_the_rest_of_the_page(results):
    results.slide("a").preview.write_bytes(b"no picture")
    results.slide("b").preview.unlink()
    results.runs.mkdir()
    (results.runs / "1.json").write_text("{")
    record = {"slides": [1], "model": 3, "machine": None, "start": ["x"], "device": {}}
    (results.runs / "2.json").write_text(json.dumps(record))
    results.ledger.write_text('{"event": "start"}\nno json\n')
    assert Report(results).write() == ""
    assert "<img" not in results.index.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_a_line(results):
    results.cohort_parquet.write_bytes(b"no table")
    problem = Report(results).write()
    assert problem.startswith(f"the report {results.index} was not written: ")
    assert "\n" not in problem


def test_a_run_at_work_writes_it_after_some_minutes(results, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("noctile.workflows.results.report.time.monotonic", lambda: now[0])
    report = Report(results)
    report.write_if_due()
    assert not results.index.exists()
    now[0] += 121
    report.write_if_due()
    assert "while a run was at work" in results.index.read_text(encoding="utf-8")
    results.index.unlink()
    report.write_if_due()
    assert not results.index.exists()


def test_throughput_is_that_of_the_last_run(results):
    def event(kind: str, minute: int, **values) -> str:
        return json.dumps({"time": f"2026-11-29T01:{minute:02}:00+00:00", "event": kind} | values)

    start = {"command": "run", "slides": ["a", "b"], "pixels_key": "k", "run": "r"}
    end = {"key": "k", "seconds": 1.0}
    lines = [
        event("start", 0, **start),
        event("finish", 5, slide_id="a", **end),
        event("start", 10, **start),
        event("finish", 20, slide_id="a", **end),
        event("finish", 40, slide_id="b", **end),
    ]
    results.ledger.write_text("\n".join(lines) + "\n")
    Report(results).write()
    assert "2 slides done in 30 min" in results.index.read_text(encoding="utf-8")
