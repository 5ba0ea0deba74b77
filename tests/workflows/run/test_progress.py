"""Progress and result of a run."""

from pathlib import Path

import pytest

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.results.run_log import RunLog
from noctile.workflows.run.progress import Detail, Pace, Progress, RunResult, logged


def result(*statuses: str, stopped: str | None = None) -> RunResult:
    rows = [SlideRow(str(n), Path("x"), status) for n, status in enumerate(statuses)]
    return RunResult(rows, stopped, Pace(1, 1.0, None))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (result("done", "done"), 0),
        (result("done", "failed"), 1),
        (result("failed", "failed"), 2),
        (result("done", "skipped", stopped="Ctrl-C"), 3),
    ],
)
def test_the_exit_code_tells_what_became_of_the_slides(found, code):
    assert found.exit_code == code


def test_slides_are_counted_by_status():
    found = result("done", "failed", "done")
    assert [found.count(status) for status in ("done", "failed", "skipped")] == [2, 1, 0]


def test_the_pace_is_one_line_and_names_the_gpu_if_there_is_one():
    assert str(Pace(100, 8.0, None)) == "100 tiles in 8.0 s (12.5 tiles/s)"
    assert str(Pace(100, 8.0, 0.87)) == "100 tiles in 8.0 s (12.5 tiles/s), GPU busy 87%"


def test_every_message_is_passed_on_and_logged_with_its_time(tmp_path):
    seen, log = [], tmp_path / "run.log"
    observe = logged(lambda _, message: seen.append(message), RunLog(log))
    for message in ("a: done", "", Detail("b: 3 tiles in 1 blocks")):
        observe(Progress(2), message)
    assert seen == ["a: done", "", "b: 3 tiles in 1 blocks"]
    assert isinstance(seen[-1], Detail)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["a: done", "b: 3 tiles in 1 blocks"]
