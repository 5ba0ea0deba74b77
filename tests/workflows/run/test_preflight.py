"""The first minutes of a run: problems of an archive are reported before the first block begins."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from standins import small_slide

from noctile.pipeline.errors import NoctileError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.plan import plan_slides
from noctile.workflows.engines.base import attempt
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.run import preflight
from noctile.workflows.run import run as run_module
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """More slides than a run has in flight; slides with problems come last."""
    folder = tmp_path_factory.mktemp("slides")
    for n in range(10):
        small_slide(folder / f"a{n}.tif", seed=0, height=600 + n, width=700)
    shutil.copy(folder / "a3.tif", folder / "x-copy.tif")
    small_slide(folder / "x-glass.tif", seed=None, height=600, width=700)
    small_slide(folder / "x-nompp.tif", seed=0, height=600, width=700, mpp=None)
    (folder / "x-broken.tif").write_bytes(b"II*\0 this is no slide")
    return folder


def run_all(slides: Path, out: Path, model: Path, **more) -> tuple[RunResult, list[str]]:
    """A run, and its messages."""
    settings = RunSettings(model=str(model), **{"engine": "serial", "device": "cpu", **more})
    messages: list[str] = []
    result = run_slides(
        find_slides([slides], None, None).slides,
        settings,
        out,
        lambda progress, message: messages.append(message),
    )
    return result, [message for message in messages if message]


def events(out: Path, *kinds: str) -> list[tuple[str, str]]:
    lines = map(json.loads, (out / "ledger.jsonl").read_text().splitlines())
    return [
        (line["event"], line.get("slide_id", line.get("command")))
        for line in lines
        if line["event"] in kinds
    ]


FOUND = "preflight of 14 of 14 slides: 12 ready, 2 failed; 1 without tissue, 1 duplicates"


def test_every_slide_is_planned_before_the_first_block(slides, model, tmp_path):
    result, messages = run_all(slides, tmp_path, model)
    assert result.exit_code == 1
    before = messages[: messages.index(FOUND)]
    assert [message.partition(": slide")[0] for message in before] == [
        "x-broken: failed, unopenable",
        "x-copy: same content as a3",
        "x-glass: no tissue",
        "x-nompp: failed, mpp_missing",
    ]
    first_block = events(tmp_path, "look", "failed", "segment").index(("segment", "a0"))
    planned = {
        slide_id for _, slide_id in events(tmp_path, "look", "failed", "segment")[:first_block]
    }
    assert planned == {path.stem for path in slides.iterdir()}
    assert not any("earlier run" in message for message in messages)
    assert [event for event in events(tmp_path, "failed") if event[1] == "x-broken"] == [
        ("failed", "x-broken")
    ]


def test_a_slide_that_was_planned_once_is_in_no_further_preflight(slides, model, tmp_path):
    run_all(slides, tmp_path, model)
    _, messages = run_all(slides, tmp_path, model)
    assert not any(message.startswith("preflight") for message in messages)
    assert len(events(tmp_path, "look")) == 12
    _, messages = run_all(slides, tmp_path, model, retry_failed=True)
    assert (
        "preflight of 2 of 2 slides: 0 ready, 2 failed; 0 without tissue, 0 duplicates" in messages
    )
    assert len(events(tmp_path, "failed")) == 4


def test_a_run_after_noctile_plan_has_a_preflight_of_slides_that_failed_there_alone(
    slides, model, tmp_path
):
    settings = RunSettings(model=str(model), engine="serial", device="cpu")
    plan_slides(
        find_slides([slides], None, None).slides, settings, tmp_path, lambda progress, message: None
    )
    _, messages = run_all(slides, tmp_path, model)
    assert any(message.startswith("preflight of 2 of 2 slides: 0 ready") for message in messages)


def test_a_preflight_ends_when_its_time_is_over(slides, model, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "PREFLIGHT_S", 0.0)
    result, messages = run_all(slides, tmp_path / "late", model)
    nothing = "preflight of 0 of 14 slides: 0 ready, 0 failed; 0 without tissue, 0 duplicates"
    assert f"{nothing}; the others are planned in their turn" in messages
    assert events(tmp_path / "late", "look") == []
    monkeypatch.undo()
    other, _ = run_all(slides, tmp_path / "soon", model)
    assert [(r.slide_id, r.status, r.reason) for r in result.rows] == [
        (r.slide_id, r.status, r.reason) for r in other.rows
    ]
    tables = [
        pq.read_table(tmp_path / out / "slides.parquet").drop_columns(["run", "seconds"])
        for out in ("late", "soon")
    ]
    assert tables[0].equals(tables[1])


class OneHangs(SerialEngine):
    """Engine that ends the preparation of slide a0 when no other job is left."""

    def run(self, do, next_job, stop):
        held, met = None, False
        while (job := next_job()) or held:
            if job and job.key == "prepare/a0" and not met:
                held, met = job, True
            elif job:
                yield attempt(do, job)
            else:
                yield attempt(do, held)
                held = None


def test_a_slide_that_hangs_in_the_preflight_holds_up_no_other(
    slides, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_module, "start_engine", lambda context: OneHangs())
    result, messages = run_all(slides, tmp_path, model)
    assert result.count("done") == 12
    order = events(tmp_path, "look", "finish")
    before = order[: order.index(("look", "a0"))]
    assert len([event for event in before if event[0] == "finish"]) == 11
    assert messages.index(FOUND) > messages.index("x-glass: done, tumor 0.000 of 0.000 mm2")


def test_a_stop_during_the_preflight_stops_the_run(slides, model, tmp_path):
    result, messages = run_all(slides, tmp_path, model, min_free_disk_bytes=2**60)
    assert result.exit_code == 3
    assert {row.status for row in result.rows} == {"skipped"}
    assert events(tmp_path, "look", "prepare", "segment") == []
    assert sum(message.startswith("stopping") for message in messages) == 1


def test_a_slide_without_an_outcome_is_an_error_and_has_a_row_in_the_table(
    slides, model, tmp_path, monkeypatch
):
    run = SerialEngine.run

    def forgetful(engine, do, next_job, stop):
        """Run the jobs, and lose the outcome of finishing one slide."""
        for outcome in run(engine, do, next_job, stop):
            if outcome.key != "finish/a4":
                yield outcome

    monkeypatch.setattr(SerialEngine, "run", forgetful)
    with pytest.raises(NoctileError, match="1 slides have no outcome, a4 among them"):
        run_all(slides, tmp_path, model)
    rows = {
        row["slide_id"]: row["status"]
        for row in pq.read_table(tmp_path / "slides.parquet").to_pylist()
    }
    assert len(rows) == 14
    assert rows["a4"] == "skipped"
