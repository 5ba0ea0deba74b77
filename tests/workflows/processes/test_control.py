"""Ends of processes, and the memory that they hold."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from noctile.workflows.processes import control

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")

CHILD = "import time; print('ready', flush=True); time.sleep(60)"


def child(program: str = CHILD, *words: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def ends(pid: int) -> bool:
    """Wait for a process to end, at most 10 s; a zombie has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_a_process_ends_also_if_it_ignores_signals():
    program = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {CHILD}"
    with child(program) as process:
        control.end(process.pid)
        assert process.wait(5) == -signal.SIGKILL


def test_a_killed_process_writes_its_stack_first(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from noctile.workflows.processes.signals import dump_crashes_to\n"
        "dump_crashes_to(Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with child(program, str(tmp_path / "dump.txt")) as process:
        control.kill(process.pid)
        assert process.wait(5) == -signal.SIGKILL
    assert "Current thread" in (tmp_path / "dump.txt").read_text()


def test_a_process_that_is_not_there_is_no_error():
    with child() as process:
        process.kill()
    control.end(process.pid)
    control.kill(process.pid)
    assert control.memory_bytes(process.pid) == 0


def test_memory_is_what_the_process_holds():
    program = f"held = bytearray(b'x') * 200_000_000; {CHILD}"
    with child() as small, child(program) as large:
        more = control.memory_bytes(large.pid) - control.memory_bytes(small.pid)
        for process in (small, large):
            process.kill()
    assert 180e6 < more < 260e6


PARENT = """
import multiprocessing, time
from noctile.workflows.processes import control

def work(pids):
    control.end_with_parent()
    import os
    pids.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=work, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(60)
"""


def test_a_process_ends_with_its_parent(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT, encoding="utf-8")
    command = [sys.executable, tmp_path / "parent.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ends(pid)


def test_leaving_at_once_ends_all_children_and_removes_the_scratch_folder():
    program = (
        "import subprocess, sys\n"
        "from noctile.workflows.processes.control import exit_at_once\n"
        "from noctile.workflows.processes.scratch import scratch_folder\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('ready', child.pid, scratch_folder(), flush=True)\n"
        "exit_at_once(130)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    _, pid, folder = done.stdout.split()
    assert (done.returncode, done.stderr) == (130, "")
    assert ends(int(pid))
    assert not os.path.exists(folder)  # noqa: PTH110
