"""The watch over the GPUs, against a driver that is a shell script."""

import os
import time
from pathlib import Path

import pytest

from noctile.workflows.processes.gpu_usage import GpuUsage


def _driver(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nprintf "{says}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "asked"


def _watched(gpus: tuple[str, ...]) -> float | None:
    with GpuUsage(gpus, interval_s=0.05) as watch:
        time.sleep(0.5)
    return watch.busy


def test_the_mean_of_all_gpus_is_reported(tmp_path, monkeypatch):
    asked = _driver(tmp_path, "80\\n40\\n", monkeypatch)
    assert _watched(("0", "3")) == pytest.approx(0.6)
    assert "--id=0,3" in asked.read_text()


def test_a_driver_that_does_not_know_is_no_answer(tmp_path, monkeypatch):
    _driver(tmp_path, "[N/A]\\n", monkeypatch)
    assert _watched(("0",)) is None


def test_nobody_looks_without_gpus(tmp_path, monkeypatch):
    asked = _driver(tmp_path, "80\\n", monkeypatch)
    assert _watched(()) is None
    assert not asked.exists()


def test_without_a_driver_nothing_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _watched(("0",)) is None
