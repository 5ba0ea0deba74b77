"""Record of a call."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.processes.usage import Usage
from noctile.workflows.run.progress import Progress
from noctile.workflows.run.record import RunRecord, run_id
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings

START = datetime(2026, 11, 28, 1, 30, 0, 123_456, UTC)


def test_a_run_id_is_the_start_in_utc_and_sorts_by_time():
    assert run_id(START) == "20261128T013000.123Z"
    assert run_id(START.astimezone(timezone(timedelta(hours=2)))) == run_id(START)
    assert run_id(START) < run_id(START + timedelta(milliseconds=1))


def test_the_record_has_settings_model_classes_and_counts(model, tmp_path):
    settings = RunSettings(model=str(model), engine="serial", device="cpu")
    context = open_context(settings, tmp_path, run_id(START))
    record = RunRecord(context, START, Usage((), lambda: (0, 0)))
    record.write()
    path = tmp_path / "runs" / "20261128T013000.123Z.json"
    begun = json.loads(path.read_text())
    assert (begun["end"], begun["stopped"]) == (None, None)
    rows = [SlideRow("a", Path("a"), "done"), SlideRow("b", Path("b"), "failed", "missing")]
    record.write(rows, "Ctrl-C")
    ended = json.loads(path.read_text())
    assert ended["slides"] == {"done": 1, "failed": 1, "skipped": 0}
    assert (ended["failed"], ended["stopped"]) == (["b"], "Ctrl-C")
    assert ended["settings"]["engine"] == "serial"
    assert ended["classes"] == [info.name for info in context.card.classes]
    assert ended["end"] >= ended["start"]


def test_a_run_at_work_writes_its_record_every_few_minutes(model, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("noctile.workflows.run.record.time.monotonic", lambda: now[0])
    settings = RunSettings(model=str(model), engine="serial", device="cpu")
    context = open_context(settings, tmp_path, run_id(START))
    with Usage((), lambda: (2, 30), interval_s=0.01) as usage:
        heard = []
        record = RunRecord(context, START, usage)
        observe = record.kept_current(lambda progress, message: heard.append(message))
        observe(Progress(1), "early")
        path = context.results.run_record(context.run)
        assert not path.exists()
        now[0] += 121
        time.sleep(0.1)
        observe(Progress(1), "due")
    written = json.loads(path.read_text())
    assert written["usage"]["tiles"][-1] == 30
    assert (written["end"], heard) == (None, ["early", "due"])
    path.unlink()
    path.mkdir()  # the record cannot be written; the run goes on
    now[0] += 121
    observe(Progress(1), "late")
    assert heard[-1] == "late"


def test_the_record_of_the_end_stays(model, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("noctile.workflows.run.record.time.monotonic", lambda: now[0])
    settings = RunSettings(model=str(model), engine="serial", device="cpu")
    context = open_context(settings, tmp_path, run_id(START))
    record = RunRecord(context, START, Usage((), lambda: (1, 30)))
    observe = record.kept_current(lambda progress, message: None)
    record.write([SlideRow("a", Path("a"), "done")])
    now[0] += 1000
    observe(Progress(1), "the report cannot be written")
    ended = json.loads(context.results.run_record(context.run).read_text())
    assert ended["end"] is not None
    assert ended["slides"]["done"] == 1
