"""A checkpoint is read by its own training alone, and its history is a table."""

import math
from pathlib import Path

import pytest
import torch

from noctile.pipeline.errors import UsageError
from noctile.pipeline.training.checkpoint import (
    Progress,
    read_checkpoint,
    write_checkpoint,
    write_history,
)


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"key": "a", "epoch": 3, "best": {"w": torch.ones(2)}})
    state = read_checkpoint(path, "a")
    assert state["epoch"] == 3
    assert state["best"]["w"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", {"key": "a"})
    with pytest.raises(UsageError, match="other settings or other data"):
        read_checkpoint(tmp_path / "checkpoint.pt", "b")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match=r"checkpoint\.pt cannot be read"):
        read_checkpoint(tmp_path / "checkpoint.pt", "a")


def test_an_epoch_is_better_only_with_a_higher_dice_or_without_validation() -> None:
    progress = Progress(start="random")
    assert progress.is_better(0.1)
    progress.history, progress.best_epoch = [{"val_dice_mean": 0.5}], 1
    assert progress.is_better(0.6)
    assert not progress.is_better(0.5)
    assert progress.is_better(math.nan)


def test_a_figure_that_does_not_exist_is_an_empty_cell(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [{"epoch": 1, "val_loss": math.nan}])
    assert (tmp_path / "history.csv").read_text() == "epoch,val_loss\n1,\n"
