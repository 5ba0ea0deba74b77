"""Runs with models that are broken: the call ends with exit code 2, and no slide fails."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from malformed.test_models import network, seal
from standins import small_slide

from noctile.cli import main


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate("ab"):
        small_slide(folder / f"{name}.tif", seed=seed, height=900, width=1100)
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A model whose weights have the hash in its card, and do not fit its config."""
    folder = network(tmp_path)
    weights = {"weight": torch.zeros(7, 3, 1, 1), "bi\x1b[2Jas": torch.zeros(2)}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    return seal(folder)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("engine", ["serial", "dask"])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_weights_that_do_not_fit_end_the_call_before_a_slide_is_blamed(
    slides: Path, broken: Path, tmp_path: Path, command: str, engine: str, backend: str
) -> None:
    out = tmp_path / "out"
    words = [command, slides, "--out", out, "--model", broken, "--engine", engine]
    words += ["--device", "cpu", "--backend", backend, "--workers", 2]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 2, result.output
    assert "does not fit config.json" in result.output
    assert "\x1b" not in result.output
    assert "Traceback" not in result.output
    ledger = out / "ledger.jsonl"  # a plan writes none
    lines = ledger.read_text(encoding="utf-8").splitlines() if command == "run" else ()
    assert "failed" not in {json.loads(line)["event"] for line in lines}


def test_weights_of_terabytes_end_the_call_at_once(slides: Path, tmp_path: Path) -> None:
    folder = network(tmp_path)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(2**42)
    words = ["run", slides, "--out", tmp_path / "out", "--model", folder]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 2
    assert "model.safetensors cannot be read: It has more than" in result.output
