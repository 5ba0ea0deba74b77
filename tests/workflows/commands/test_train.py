"""Settings of a training come from a file and from the call, and a folder is not trained over."""

from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.training.settings import TrainSettings
from noctile.workflows.commands import train as command
from noctile.workflows.commands.train import load_train_settings, train


def test_given_settings_replace_those_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text("epochs = 3\nrate = 0.5\n")
    settings = load_train_settings(config, [tmp_path], epochs=9, rate=None)
    assert (settings.epochs, settings.rate) == (9, 0.5)


def test_a_source_is_looked_up_in_the_folders_in_their_order(tmp_path: Path) -> None:
    for folder in ("first", "second/bcss", "third/bcss"):
        (tmp_path / folder).mkdir(parents=True)
    config = tmp_path / "train.toml"
    config.write_text('[[data]]\npath = "bcss"\n')
    folders = [tmp_path / name for name in ("first", "second", "third")]
    (source,) = load_train_settings(config, folders, 0.25).data
    assert (source.path, source.name, source.mpp) == (tmp_path / "second" / "bcss", "bcss", 0.25)
    with pytest.raises(UsageError, match="data source bcss is in none of"):
        load_train_settings(config, folders[:1])


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one/bcss", "two/bcss"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UsageError, match="two data sources are called bcss"):
        load_train_settings(None, [tmp_path / "one" / "bcss", tmp_path / "two" / "bcss"])


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text("epoch = 3\n")
    with pytest.raises(UsageError, match="epoch"):
        load_train_settings(config, [tmp_path])


def test_a_folder_without_regions_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    settings = load_train_settings(None, [tmp_path / "data"], device="cpu")
    with pytest.raises(UsageError, match="no regions"):
        train(settings, tmp_path / "model", lambda _: None)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("free_mb", "wanted", "workers"), [(64, None, 2), (64, 8, 2), (10, None, 0), (2000, None, 8)]
)
def test_workers_fit_into_the_shared_memory_or_the_training_says_why_not(
    monkeypatch, free_mb, wanted, workers
) -> None:
    """A worker's three batches of 8 crops of 512 px take 25 MB."""
    monkeypatch.setattr(command, "shared_memory_bytes", lambda: free_mb * 10**6)
    monkeypatch.setattr(command, "cores", lambda: 8)
    lines: list[str] = []
    settings = TrainSettings(data=(), workers=wanted)
    assert command._workers(settings, "cuda", 1, lines.append) == workers
    assert ["--shm-size" in line for line in lines] == ([] if workers == 8 else [True])
