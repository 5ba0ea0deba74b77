"""Processes that do not import the script of their caller."""

import subprocess
import sys
from contextlib import suppress
from multiprocessing import spawn

import pytest

from noctile.workflows.processes.main_module import without_main_module

SCRIPT = """
import multiprocessing
from contextlib import nullcontext
from noctile.workflows.processes.main_module import without_main_module

print("imported")
with {around}:
    process = multiprocessing.get_context("{method}").Process(target=print, args=("worked",))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_starts_from_a_script_without_a_guard(method, tmp_path):
    def run(around: str) -> list[str]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(around=around, method=method))
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout.split()

    assert run("without_main_module()") == ["imported", "worked"]
    assert "worked" not in run("nullcontext()")


def test_python_is_as_before_afterwards():
    before = spawn.get_preparation_data
    with suppress(KeyError), without_main_module():
        raise KeyError
    assert spawn.get_preparation_data is before
