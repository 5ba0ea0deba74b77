"""The wheel: one import name, and nothing beside it that another package could replace."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest


@pytest.fixture(scope="module")
def wheel(repo, tmp_path_factory) -> Path:
    """The wheel of a copy of the repository, built with the setuptools that is installed."""
    source, folder = tmp_path_factory.mktemp("source") / "noctile", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for name in ("README.md", "LICENSE", "cli.py", "pyproject.toml"):
        shutil.copy(repo / name, source)
    for name in ("noctile", "console", "pipeline", "workflows"):
        shutil.copytree(repo / name, source / name, symlinks=True)
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", *build, str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_installs_one_name(wheel):
    with ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"noctile"}


def test_the_wheel_holds_every_module_and_the_files_that_modules_read(wheel, repo):
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "cli.py", "console", "pipeline", "workflows"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {f"noctile/{name}" for name in tracked.stdout.split()}
    assert expected <= held
    assert {"noctile/__init__.py", "noctile/__main__.py", "noctile/py.typed"} <= held


@pytest.fixture(scope="module")
def hostile(wheel, tmp_path_factory) -> Path:
    """The programs of an environment in which another package has a `cli`, `pipeline` and so on."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    here = sysconfig.get_path("purelib")
    (site / "dependencies.pth").write_text(f"{here}\n", encoding="utf-8")
    install = ["pip", "--python", str(programs / "python"), "install", "-q", "--no-deps"]
    subprocess.run([sys.executable, "-m", *install, "--no-index", str(wheel)], check=True)
    for name in ("cli.py", "pipeline/__init__.py", "workflows/__init__.py", "console/__init__.py"):
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise SystemExit('the other package: {name}')\n", encoding="utf-8")
    return programs


@pytest.mark.parametrize("words", [["noctile"], ["python", "-m", "noctile"]])
def test_packages_of_the_same_names_do_not_break_the_command(hostile, tmp_path, words):
    for name in ("cli.py", "pipeline.py", "workflows.py"):
        other = tmp_path / name
        other.write_text("raise SystemExit('the file in the current folder')\n", encoding="utf-8")
    command = [hostile / words[0], *words[1:], "models"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "tumor" in done.stdout


def test_no_module_is_imported_by_the_name_of_its_folder(hostile, tmp_path):
    folders = {"cli", "console", "pipeline", "workflows"}
    program = f"""
import sys
import noctile.cli, noctile.workflows.run.run, noctile.workflows.jobs.finish
import noctile.workflows.engines.dask
print({{name.partition(".")[0] for name in sys.modules}} & {folders})
"""
    command = [hostile / "python", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
