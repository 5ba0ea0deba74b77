"""Noctile's own processes do not import what they have no use for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

LOOK = "import sys, pyarrow; assert pyarrow.array([1.5, None]).null_count == 1; print('pandas' in sys.modules)"


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ("", "True"),  # or the others show nothing
        ("import workflows.engines.forked; ", "False"),
        ("import cli; cli.main = lambda: None; cli.command(); ", "False"),
        ("import cli; ", "True"),  # somebody else's process
    ],
)
def test_pyarrow_makes_arrays_without_importing_pandas_in_our_processes_alone(first, found):
    assert find_spec("pandas")
    said = subprocess.run([sys.executable, "-c", first + LOOK], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == found
