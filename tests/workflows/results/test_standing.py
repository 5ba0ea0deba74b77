"""Slides that stand in a folder of results."""

import os

import pytest

from noctile.pipeline.cohort import cohort_table
from noctile.workflows.results.events import (
    Failed,
    Finished,
    LeftOut,
    Started,
    Submitted,
    parse_events,
    to_line,
)
from noctile.workflows.results.files import write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger_state import LedgerState, replay
from noctile.workflows.results.standing import Standing

T = "2026-11-29T00:00:00.000+00:00"
SUMMARY = {"key": "k1", "path": "/x/a.svs", "class_area_mm2": {"tumor": 1.0, "other": 2.0}}
START = Started(T, "run", ("a",), "k", "r1")
CELLS = {"patient_id": "P", "age": "7"}
FAILED = Failed(T, "prepare", "a", "f", 1.0, 1, "unreadable", "no pixels")


@pytest.fixture
def results(tmp_path) -> ResultsFolder:
    return ResultsFolder(tmp_path)


def standing(results: ResultsFolder, *events) -> Standing:
    return Standing(results, replay(events))


def test_a_slide_with_a_summary_is_done_with_the_cells_of_its_manifest(results):
    write_json(results.slide("a").summary, SUMMARY)
    submitted = Submitted(T, "a", "/moved/a.svs", 1, 1, CELLS, "r1")
    row = standing(results, START, submitted, Finished(T, "a", "k1", 2.0, "r1")).row("a")
    assert (row.status, row.run, row.seconds, row.patient_id) == ("done", "r1", 2.0, "P")
    assert (str(row.path), row.extra) == ("/moved/a.svs", (("age", "7"),))
    assert row.summary == SUMMARY


def test_a_result_stands_although_a_later_call_failed(results):
    write_json(results.slide("a").summary, SUMMARY)
    done = Finished(T, "a", "k1", 2.0, "r1")
    row = standing(results, START, done, Started(T, "run", ("a",), "k", "r2"), FAILED).row("a")
    assert (row.status, row.reason, row.run) == ("done", "", "r1")
    assert row.message == "a later run failed: unreadable: no pixels"


def test_a_failed_slide_has_its_reason_and_the_call_that_failed_it(results):
    row = standing(results, START, FAILED, Started(T, "run", ("a",), "k", "r2")).row("a")
    assert (row.status, row.reason, row.message, row.run) == (
        "failed",
        "unreadable",
        "no pixels",
        "r1",
    )


def test_a_slide_without_outcome_waits_or_was_stopped(results):
    rows = standing(results, START)
    assert (rows.rows()[0].reason, rows.rows()[0].message) == ("waiting", "")
    write_json(results.run_record("r1"), {"stopped": "Ctrl-C"})
    row = rows.rows()[0]
    assert (row.status, row.reason, row.message, row.run) == ("skipped", "stopped", "Ctrl-C", "r1")


def test_a_path_that_was_left_out_has_a_row_with_code_and_message(results):
    left = LeftOut(T, "lost", "/x/lost+found", "no_access: cannot be searched", "r1")
    row = standing(results, START, left).row("lost")
    assert (row.status, row.reason, row.message) == ("skipped", "no_access", "cannot be searched")
    assert str(row.path) == "/x/lost+found"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"class_area_mm2": 17}',
        '{"mpp": 1}',
        '{"qc_flags": [1]}',
        '{"tumor_area_mm2": "much"}',
        '{"tumor_foci": 1.5}',
        '{"tiles": 99999999999999999999}',
        '{"reader": ["x"]}',
        '{"vendor": "\\ud800"}',
        '{"class_area_mm2": {"\\ud800": 1}}',
        '{"key": 1}',
    ],
)
def test_a_damaged_summary_makes_a_failed_row(results, text):
    results.slide("a").path.mkdir(parents=True)
    results.slide("a").summary.write_text(text)
    row = Standing(results, LedgerState()).rows()[0]
    assert (row.slide_id, row.status, row.reason) == ("a", "failed", "store")
    assert "summary.json" in row.message


def test_classes_are_those_of_the_last_run_and_of_every_summary(results):
    write_json(results.slide("a").summary, SUMMARY)
    write_json(results.run_record("20260101T000000.000Z"), {"classes": ["old"]})
    write_json(results.run_record("20270101T000000.000Z"), {"classes": ["other", "new"]})
    assert standing(results, START).class_names() == ["other", "new", "tumor"]


def test_a_record_of_other_types_names_no_class_and_no_reason_with_escape_sequences(results):
    record = {"classes": [["x"], 1, "tumor"], "stopped": "\x1b[2J"}
    write_json(results.run_record("r1"), record)
    found = standing(results, START)
    assert found.class_names() == ["tumor"]
    assert found.row("a").message == r"\x1b[2J"


def test_a_folder_whose_name_cannot_be_a_slide_id_is_left_out(results):
    write_json(results.slides / os.fsdecode(b"a\xff") / "summary.json", SUMMARY)
    assert standing(results, START).rows()[0].slide_id == "a"
    assert len(standing(results, START).rows()) == 1


def test_half_a_character_in_a_cell_of_the_ledger_is_no_end_of_the_tables(results):
    line = to_line(Submitted(T, "a", "/a.svs", 1, 1, {"note": "half"}, "r1"))
    events = parse_events([line.replace("half", r"\ud800")])
    row = Standing(results, replay(events)).row("a")
    assert row.extra == (("note", r"\ud800"),)
    cohort_table([row], [])
