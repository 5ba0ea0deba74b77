"""Folders of results whose slides come to another folder."""

import json
import shutil

import pytest
from damaged_results import edit

from noctile.workflows.commands.merge_source import Source
from noctile.workflows.results.events import Failed, Finished
from noctile.workflows.results.layout import ResultsFolder


@pytest.fixture
def target(tmp_path) -> ResultsFolder:
    (tmp_path / "joined").mkdir()
    return ResultsFolder(tmp_path / "joined")


def test_slides_are_told_apart_by_their_results(damaged):
    source = Source(damaged)
    assert sorted(source.done) == ["a", "b", "glass"]
    assert sorted(source.others) == ["broken"]
    assert source.damaged == {}
    assert source.others["broken"].path.endswith("broken.tif")


def test_results_that_cannot_be_taken_are_named(damaged):
    folder = damaged / "slides"
    edit(folder / "a" / "summary.json", fingerprint=None)
    (folder / "b" / "summary.json").write_text("{")
    (folder / "glass").rename(folder / " glass")
    (damaged / ".staging").mkdir()
    shutil.copytree(folder / " glass", damaged / ".staging" / "moved")
    source = Source(damaged)
    assert source.done == {}
    assert set(source.damaged) == {"a", "b", "moved"}
    assert "noctile table" in source.damaged["moved"]
    assert set(source.others) == {"broken", "glass"}


def test_events_of_a_slide_keep_its_figures_and_name_the_calls_of_the_other_folder(damaged):
    source = Source(damaged)
    run = source.slide("a").done_by
    [end] = source.finished("a", "new", {run: "other"})
    assert isinstance(end, Finished)
    assert (end.slide_id, end.run, end.key) == ("new", "other", source.summary("a")["key"])
    assert end.seconds > 0
    [failed] = source.not_finished("broken", "broken", {})
    assert isinstance(failed, Failed)
    assert (failed.run, failed.reason) == (run, source.slide("broken").failure.reason)


def test_records_of_runs_are_copied_and_none_replaces_another(damaged, target):
    source = Source(damaged)
    [record] = (damaged / "runs").glob("*.json")
    assert source.copy_records(target) == {record.stem: record.stem}
    assert (target.runs / record.name).read_bytes() == record.read_bytes()
    edit(record, device="another")
    for _ in range(2):
        assert source.copy_records(target) == {record.stem: f"{record.stem}-2"}
    assert len(list(target.runs.iterdir())) == 2
    stands = json.loads((target.runs / f"{record.stem}-2.json").read_text())
    assert (stands["run"], stands["device"]) == (f"{record.stem}-2", "another")


def test_records_that_are_damaged_stay_where_they_are(damaged, target):
    (damaged / "runs" / "torn.json").write_text("{")
    assert "torn" not in Source(damaged).copy_records(target)


def test_lines_of_the_log_are_added_once(damaged, target):
    (damaged / "run.log").write_text("2026-11-29T01:00:00+00:00 first\n")
    target.run_log.write_text("2026-11-29T00:00:00+00:00 ours\n")
    for _ in range(2):
        Source(damaged).copy_log(target)
    assert [line[26:] for line in target.run_log.read_text().splitlines()] == ["ours", "first"]


def test_a_log_that_cannot_be_read_is_not_replaced(damaged, target):
    (damaged / "run.log").write_text("new\n")
    target.run_log.write_bytes(b"\xff\xfe")
    Source(damaged).copy_log(target)
    assert target.run_log.read_bytes() == b"\xff\xfe"
    target.run_log.unlink()
    target.run_log.symlink_to(target.path / "elsewhere")
    Source(damaged).copy_log(target)
    assert not (target.path / "elsewhere").exists()


def test_reports_are_copied_if_they_are_there(damaged, target):
    report = target.failure_report("broken")
    Source(damaged).copy_report("glass", report)
    assert not report.exists()
    Source(damaged).copy_report("broken", report)
    assert report.read_bytes() == (damaged / "failures" / "broken.txt").read_bytes()
