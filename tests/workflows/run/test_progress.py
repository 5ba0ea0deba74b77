"""Progress and result of a run."""

from pathlib import Path

import pytest

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.run.progress import Pace, RunResult


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
