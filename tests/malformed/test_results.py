"""Folders of results from strangers: a short error for each, and no other folder is touched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from standins import small_slide, threshold_model

from noctile.cli import main

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slides, a model, and the results of a run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "in").mkdir()
    small_slide(folder / "in" / "a.tif", seed=0, height=900, width=1100)
    threshold_model(folder / "model")
    assert call(folder, "plan")[0] == 0
    assert call(folder, "run")[0] == 0
    return folder


def call(folder: Path, command: str) -> tuple[int, str]:
    out = str(folder / "results")
    words = ["--model", str(folder / "model"), "--engine", "serial", "--device", "cpu"]
    more = {
        "run": [str(folder / "in"), "--out", out, *words],
        "plan": [str(folder / "in"), "--out", out, *words],
        "verify": [out, "--workers", "1"],
        "status": [out],
        "table": [out],
        "annotate": [out, "--out", str(folder / "annotated")],
        "evaluate": [str(folder / "model"), out, "--out", str(folder / "report")],
    }
    result = CliRunner().invoke(main, [command, *more[command]])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def deep(path: Path) -> None:
    path.write_text(DEEP)


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**42)


def other_types(path: Path) -> None:
    path.write_text(json.dumps({"slide_id": ["\x1b[2J"], "key": 10**400, "plan": None}))


FILES = (
    "ledger.jsonl",
    "slides.csv",
    "slides.parquet",
    "columns.json",
    "plan.csv",
    "run.log",
    "slides/a/summary.json",
    "slides/a/plan.json",
    "slides/a/blocks.json",
    "slides/a/checksums.json",
    "slides/a/tissue.png",
    "slides/a/preview.jpg",
    "slides/a/tiles.parquet",
    "slides/a/mask.ome.zarr/zarr.json",
    "slides/a/mask.ome.zarr/labels/classes/zarr.json",
)


DAMAGES = (pipe, device, deep, sparse, other_types)


def thinned(cases: Iterable[tuple[Any, ...]], every: int) -> list[Any]:
    """Cases of which only every n-th one is in the short form; the long form has all of them."""
    return [
        pytest.param(*case, marks=() if n % every == 0 else pytest.mark.long)
        for n, case in enumerate(cases)
    ]


def is_short(code: int, text: str) -> bool:
    """Tell if a command ended without a traceback, an escape sequence or a flood of text."""
    plain = text.replace("\n", "").replace("\t", "").isprintable()
    return code in (0, 1, 2) and "Traceback" not in text and plain and len(text) < 10_000


@pytest.mark.parametrize(
    ("name", "damage", "command"),
    thinned(product(FILES, DAMAGES, ("status", "verify", "table", "plan")), every=3),
)
def test_damage_is_a_short_error(
    finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], command: str
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    damage(tmp_path / "copy" / "results" / name)
    code, text = call(tmp_path / "copy", command)
    assert is_short(code, text), text


@pytest.mark.parametrize(("name", "damage"), thinned(product(FILES, DAMAGES), every=4))
def test_a_run_makes_damaged_files_again_or_names_them(
    finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    damage(tmp_path / "copy" / "results" / name)
    code, text = call(tmp_path / "copy", "run")
    assert is_short(code, text), text
    if code:
        assert name in text
    else:
        code, text = call(tmp_path / "copy", "verify")
        assert code == 0, text


@pytest.mark.parametrize("command", ["evaluate", "annotate"])
@pytest.mark.parametrize("damage", [pipe, device, deep, sparse])
@pytest.mark.parametrize("name", ["slides/a/tissue.png", "slides/a/preview.jpg", "slides.csv"])
def test_damaged_pictures_are_a_short_error(
    finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], command: str
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    damage(tmp_path / "copy" / "results" / name)
    code, text = call(tmp_path / "copy", command)
    assert is_short(code, text), text


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize("name", ["slides", ".staging", "slides/a", ".staging/a"])
def test_a_link_out_of_the_folder_is_refused(
    finished: Path, tmp_path: Path, name: str, command: str
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    path, mine = tmp_path / "copy" / "results" / name, tmp_path / "mine"
    mine.mkdir()
    for file in ("plan.json", "summary.json", ".x.1.tmp.json", "mine.txt"):
        (mine / file).write_text("{}")
    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(mine)
    code, text = call(tmp_path / "copy", command)
    if command == "run" or name.startswith("slides"):
        assert code in (1, 2), text
        assert "is a link, which no run makes" in text
    assert {file.name: file.read_text() for file in mine.iterdir()} == dict.fromkeys(
        ("plan.json", "summary.json", ".x.1.tmp.json", "mine.txt"), "{}"
    )


def mine_of(folder: Path) -> Path:
    """A folder of the user with files under the names that a run deletes and writes."""
    mine = folder / "mine"
    for name in ("0.0.json", "zarr.json", "labels/classes/0/c/0/0", "0/c/0/0/0", "mine.txt"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("{}")
    return mine


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def begun(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder as a run leaves it that was killed before its last step."""
    folder = tmp_path_factory.mktemp("begun") / "copy"
    shutil.copytree(finished, folder)
    results = folder / "results"
    slide = results / "slides" / "a"
    for name in ("summary.json", "checksums.json", "preview.jpg"):
        (slide / name).unlink()
    (results / ".staging").mkdir(exist_ok=True)
    slide.rename(results / ".staging" / "a")
    return folder


STRANGE = (
    "blocks",
    "mask.ome.zarr",
    "heat.ome.zarr",
    "mask.ome.zarr/labels",
    "mask.ome.zarr/labels/classes/0/c",
    "plan.json",
    "tissue.png",
    "tiles.parquet",
)


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("place", [".staging", ".plan"])
@pytest.mark.parametrize("name", STRANGE)
def test_a_link_or_a_pipe_deep_in_a_slide_is_made_again_and_not_followed(
    begun: Path, tmp_path: Path, name: str, place: str, kind: str
) -> None:
    shutil.copytree(begun, tmp_path / "copy")
    results, mine = tmp_path / "copy" / "results", mine_of(tmp_path)
    if place != ".staging":
        (results / ".staging").rename(results / place)
    path, before = results / place / "a" / name, contents(mine)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(mine)
    else:
        os.mkfifo(path)
    code, text = call(tmp_path / "copy", "run")
    assert code == 0, text
    assert contents(mine) == before
    code, text = call(tmp_path / "copy", "verify")
    assert code == 0, text


def test_a_link_in_a_result_that_is_measured_again_is_not_followed(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    slide, mine = tmp_path / "copy" / "results" / "slides" / "a", tmp_path / "mine"
    (slide / "mask.ome.zarr").rename(mine)
    (slide / "mask.ome.zarr").symlink_to(mine)
    (slide / "preview.jpg").unlink()
    (mine / "labels" / "classes" / "0" / "c" / "0" / "0.x.partial").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in sorted(mine.rglob("*"))}
    code, text = call(tmp_path / "copy", "run")
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in sorted(mine.rglob("*"))} == before
    assert not (slide / "mask.ome.zarr").is_symlink()


def program(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which ``noctile`` is the command."""
    words = f'noctile() {{ "{sys.executable}" -m noctile "$@"; }}; set -o pipefail; {script}'
    return subprocess.run(
        ["bash", "-c", words], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_reader_that_goes_after_one_line_is_no_traceback(finished: Path) -> None:
    ended = program(finished, "noctile status results | head -1")
    assert (ended.returncode, ended.stdout.count("\n"), ended.stderr) == (0, 1, "")


def test_a_run_whose_output_is_closed_ends_with_its_results(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    words = "noctile run in --out new --model model --engine serial --device cpu"
    ended = program(tmp_path / "copy", f"{words} >&-")
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    ended = program(tmp_path / "copy", "noctile verify new --workers 1")
    assert ended.returncode == 0, ended.stdout
