"""A shell and a folder with a finished run, for tests of the documentation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Shell = Callable[[str, Path], str]


@pytest.fixture(scope="session")
def shell(tmp_path_factory) -> Shell:
    """Runs a script in a folder and returns what it prints; a failure of the script is an error.

    ``noctile`` and ``python`` are this checkout and this interpreter.
    """
    commands = tmp_path_factory.mktemp("commands")
    for name, options in (("noctile", "-m noctile"), ("python", "")):
        (commands / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {options} \"$@\"\n")
        (commands / name).chmod(0o755)
    paths = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env = {**os.environ, **paths, "COLUMNS": "100"}

    def run(script: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def finished_run(shell, tmp_path_factory) -> Path:
    """A folder with the sample slides and the results of the README's first command."""
    folder = tmp_path_factory.mktemp("finished_run")
    shutil.copytree(ROOT / "sample_slides", folder / "sample_slides")
    shell("noctile run sample_slides --out results", folder)
    return folder
