"""The process that workers are forked from."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

PROGRAM = """
import multiprocessing, os
from noctile.workflows.processes.forkserver import start_forkserver
from workers import inspect

if __name__ == "__main__":
    start_forkserver(("colorsys",), {"OMP_NUM_THREADS": "3"})
    assert "OMP_NUM_THREADS" not in os.environ
    pool = multiprocessing.get_context("forkserver").Pool(1)
    print(pool.apply(inspect))
    pool.close()  # Pool.terminate would wait for ever: workers ignore SIGTERM
    pool.join()
"""

WORKERS = """
import gc, os, sys

def inspect():
    loaded = [name in sys.modules for name in ("colorsys", "distributed.nanny")]
    return loaded, os.environ["OMP_NUM_THREADS"], gc.isenabled(), gc.get_freeze_count() > 1000
"""


def test_workers_share_its_modules_and_have_its_environment(tmp_path):
    """Its objects are frozen: the collector of a worker does not write to shared pages."""
    (tmp_path / "main.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "workers.py").write_text(WORKERS, encoding="utf-8")
    env = {"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == str(([True, True], "3", True, True))
