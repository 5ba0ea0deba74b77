"""Garbage collection where workers are forked."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_the_collector_is_off_until_the_fork_and_on_in_the_child():
    program = (
        "import gc, os\n"
        "import noctile.workflows.processes.fork_gc\n"
        "before = gc.isenabled()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(10 * gc.isenabled() + (gc.get_freeze_count() > 0))\n"
        "print(before, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "11"]
