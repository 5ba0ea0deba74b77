"""Noctile's own processes do not import what they have no use for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

LOOK = "import sys, pyarrow; assert pyarrow.array([1.5, None]).null_count == 1; print('pandas' in sys.modules)"
COMMAND = "import cli, click\nwith click.Context(cli.run, obj={obj}).scope(), cli._importing(): pass\n"


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ("", "True"),  # or the others show nothing
        ("import workflows.engines.forked\n", "False"),
        (COMMAND.format(obj="cli._OWN_PROCESS"), "False"),
        (COMMAND.format(obj="None"), "True"),  # called in somebody else's process
    ],
)
def test_pyarrow_makes_arrays_without_importing_pandas_in_our_processes_alone(first, found):
    assert find_spec("pandas")
    said = subprocess.run([sys.executable, "-c", first + LOOK], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == found


def test_whoever_else_looks_for_pandas_finds_it():
    look = "import workflows.engines.forked, importlib.util; assert importlib.util.find_spec('pandas'); import pandas"
    subprocess.run([sys.executable, "-c", look], check=True)


def test_the_command_says_that_the_process_is_its_own(monkeypatch):
    import cli

    said = []
    monkeypatch.setattr(cli, "main", lambda **given: said.append(given["obj"]))
    monkeypatch.setattr(cli.atexit, "register", lambda _: None)
    cli.command()
    assert said == [cli._OWN_PROCESS]
