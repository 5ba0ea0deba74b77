"""Folders of results from strangers: a short error for each, and no other folder is touched."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.parametrize("command", ["status", "verify"])
@pytest.mark.parametrize("damage", [pipe, device, deep, sparse, other_types])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_a_short_error(
    finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], command: str
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    damage(tmp_path / "copy" / "results" / name)
    code, text = call(tmp_path / "copy", command)
    assert code in (0, 1, 2), text
    assert "Traceback" not in text
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert len(text) < 10_000


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
