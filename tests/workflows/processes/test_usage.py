"""Samples of a run: GPUs by a driver that is a shell script, cores by real processes, work done."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noctile.workflows.processes import usage as module
from noctile.workflows.processes.usage import Samples, Usage

BUSY_LOOP = "import time\nend = time.process_time() + {s}\nwhile time.process_time() < end: pass"


def _driver(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nprintf "{says}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "asked"


def _watched(gpus: tuple[str, ...], **options) -> Usage:
    with Usage(gpus, lambda: (2, 30), interval_s=0.05, **options) as usage:
        time.sleep(0.4)
    return usage


def test_the_mean_of_all_gpus_is_reported(tmp_path, monkeypatch):
    asked = _driver(tmp_path, "80\\n40\\n", monkeypatch)
    usage = _watched(("0", "3"))
    assert usage.busy == pytest.approx(0.6)
    assert "--id=0,3" in asked.read_text()
    record = usage.record()
    assert set(record["gpu_busy"][:-1]) == {0.6}  # the last sample may have no reading
    assert len({len(values) for values in record.values()}) == 1
    assert record["seconds"] == sorted(record["seconds"])
    assert (record["slides_done"][-1], record["tiles"][-1]) == (2, 30)


def test_a_driver_that_does_not_know_is_no_answer(tmp_path, monkeypatch):
    _driver(tmp_path, "[N/A]\\n", monkeypatch)
    usage = _watched(("0",))
    assert usage.busy is None
    assert set(usage.record()["gpu_busy"]) == {None}


def test_nobody_looks_without_gpus(tmp_path, monkeypatch):
    asked = _driver(tmp_path, "80\\n", monkeypatch)
    assert _watched(()).busy is None
    assert not asked.exists()


def test_without_a_driver_nothing_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _watched(("0",)).busy is None


def test_the_time_of_children_is_counted_after_their_end_too():
    with Usage((), lambda: (0, 0), interval_s=0.05) as usage:
        with subprocess.Popen([sys.executable, "-c", BUSY_LOOP.format(s=0.4)]) as child:
            child.wait()
        time.sleep(0.1)
    assert 0.2 < usage.record()["cpu_seconds"][-1] < 1.5


def test_processes_of_another_scheduler_are_unknown():
    assert set(_watched((), own_workers=False).record()["cpu_seconds"]) == {None}


def test_joined_samples_keep_totals_and_means():
    samples = Samples([1.0, 2, 3, 4], [0.2, 0.4, None, 1.0], [1.0, 2, 3, 4], [0, 1, 1, 2], [5] * 4)
    samples.halve()
    joined = Samples([2.0, 4.0], [pytest.approx(0.3), 1.0], [2.0, 4.0], [1, 2], [5, 5])
    assert samples == joined


def test_a_long_run_has_few_samples_over_its_whole_time(monkeypatch):
    monkeypatch.setattr(module, "MOST", 8)
    with Usage((), lambda: (0, 0), own_workers=False, interval_s=0.002) as usage:
        time.sleep(0.4)
    seconds = usage.record()["seconds"]
    assert 4 <= len(seconds) <= 8
    assert seconds[0] < seconds[-1] / 2
    assert seconds[-1] >= 0.4
