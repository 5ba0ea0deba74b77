"""Record of a call."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.run.record import run_id, write_record
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
    write_record(context, START)
    path = tmp_path / "runs" / "20261128T013000.123Z.json"
    begun = json.loads(path.read_text())
    assert (begun["end"], begun["stopped"]) == (None, None)
    rows = [SlideRow("a", Path("a"), "done"), SlideRow("b", Path("b"), "failed", "missing")]
    write_record(context, START, rows, "Ctrl-C")
    ended = json.loads(path.read_text())
    assert ended["slides"] == {"done": 1, "failed": 1, "skipped": 0}
    assert (ended["failed"], ended["stopped"]) == (["b"], "Ctrl-C")
    assert ended["settings"]["engine"] == "serial"
    assert ended["classes"] == [info.name for info in context.card.classes]
    assert ended["end"] >= ended["start"]
