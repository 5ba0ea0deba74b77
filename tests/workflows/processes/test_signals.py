"""Signals that stop a run, and crash dumps."""

import os
import signal
import subprocess
import sys

import pytest

from noctile.workflows.processes.signals import children_ignoring_stop_signals, stop_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SLEEP = "import time; print('ready', flush=True); time.sleep(30)"


def test_a_run_is_stopped_by_these_signals():
    assert stop_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def survives_sigterm(process: subprocess.Popen) -> bool:
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        return True
    return False


def test_processes_that_are_started_inside_ignore_them_and_later_ones_do_not():
    command = [sys.executable, "-c", SLEEP]
    with children_ignoring_stop_signals():
        protected = subprocess.Popen(command, stdout=subprocess.PIPE)
    later = subprocess.Popen(command, stdout=subprocess.PIPE)
    with protected, later:
        assert not survives_sigterm(later)
        assert survives_sigterm(protected)
        protected.kill()


def test_handlers_of_this_process_are_as_before():
    before = [signal.getsignal(number) for number in stop_signals()]
    with children_ignoring_stop_signals():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    assert [signal.getsignal(number) for number in stop_signals()] == before


def test_a_crash_leaves_the_stack_in_the_file(tmp_path):
    program = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from noctile.workflows.processes.signals import dump_crashes_to\n"
        "dump_crashes_to(Path(sys.argv[1]))\n"
        "def falls():\n"
        "    ctypes.string_at(0)\n"
        "falls()\n"
    )
    dump = tmp_path / "dump.txt"
    ended = subprocess.run([sys.executable, "-c", program, dump], check=False)
    assert ended.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in dump.read_text()
    assert "in falls" in dump.read_text()


def test_a_process_that_hangs_writes_its_stack_on_sigusr1(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from noctile.workflows.processes.signals import dump_crashes_to, ignore_stop_signals\n"
        "ignore_stop_signals()\n"
        "dump_crashes_to(Path(sys.argv[1]))\n"
        "def hangs():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "hangs()\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "dump.txt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert survives_sigterm(process)
        os.kill(process.pid, signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
    assert "in hangs" in (tmp_path / "dump.txt").read_text()
