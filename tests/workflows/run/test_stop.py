import os
import shutil
import signal
import time
from collections import namedtuple
from datetime import datetime, timedelta

import pytest

from noctile.workflows.run import stop as stopping
from noctile.workflows.run.stop import Stop, stopped_by_signals

NOW = datetime.now().astimezone()
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def check_always(monkeypatch):
    monkeypatch.setattr(stopping, "_CHECK_S", 0.0)


def test_a_run_goes_on_until_it_is_stopped(tmp_path, said):
    stop = Stop(tmp_path, 0, NOW + timedelta(hours=1), said.append)
    assert not stop.asked()
    assert not stop.over()
    assert (stop.reason, said) == (None, [])


def test_the_first_reason_is_kept_and_announced_once(tmp_path, said):
    stop = Stop(tmp_path, 0, None, said.append)
    stop.ask("one")
    stop.ask("two")
    assert stop.asked()
    assert stop.asked()
    assert (stop.reason, said) == ("one", ["one"])


def test_running_jobs_are_abandoned_after_the_grace_time(tmp_path, said, monkeypatch):
    monkeypatch.setattr(stopping, "GRACE_S", 0.2)
    stop = Stop(tmp_path, 0, None, said.append)
    stop.ask("one")
    assert not stop.over()
    time.sleep(0.25)
    assert stop.over()


def test_a_stop_at_once_gives_running_jobs_no_time(tmp_path, said):
    stop = Stop(tmp_path, 0, None, said.append)
    stop.ask("one")
    stop.ask("two", at_once=True)
    assert stop.over()
    assert stop.reason == "one"


def test_a_run_stops_at_its_time(tmp_path, said):
    stop = Stop(tmp_path, 0, NOW - timedelta(minutes=1), said.append)
    assert stop.asked()
    assert "--until" in said[0]


def test_a_nearly_full_disk_stops_a_run(tmp_path, said, monkeypatch):
    free = [3 * 2**30]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free[0]))
    stop = Stop(tmp_path, 2 * 2**30, None, said.append)
    assert not stop.asked()
    free[0] = 2**30
    assert stop.asked()
    assert said == [
        f"disk low: 1.0 GiB free at {tmp_path}, less than the 2.0 GiB of --min-free-disk"
    ]


def test_a_missing_folder_of_results_stops_a_run_at_once(tmp_path, said):
    stop = Stop(tmp_path / "gone", 0, None, said.append)
    assert stop.over()
    assert "cannot be reached" in said[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_a_run_and_their_handlers_are_restored(tmp_path, said, number):
    outside = signal.signal(
        number, signal.default_int_handler
    )  # ignored, if the tests run under nohup
    try:
        stop = Stop(tmp_path, 0, None, said.append)
        with stopped_by_signals(stop):
            os.kill(os.getpid(), number)
            assert stop.asked()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outside)
    assert said == ["Ctrl-C" if number == signal.SIGINT else number.name]


def test_a_second_ctrl_c_interrupts_and_a_second_sigterm_does_not(tmp_path, said):
    stop = Stop(tmp_path, 0, None, said.append)
    with stopped_by_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path, said):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop(tmp_path, 0, None, said.append)
        with stopped_by_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked()
    finally:
        signal.signal(signal.SIGHUP, before)
