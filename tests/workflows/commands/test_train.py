"""Settings of a training come from a file and from the call, and a folder is not trained over."""

import json
from pathlib import Path

import numpy as np
import pytest
from standins import stored_labels
from tiny_slides import picture, write_tiff

from noctile.pipeline.errors import UsageError
from noctile.pipeline.export.geojson import write_geojson
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


QUICK = {
    "classes": "tumor",
    "encoder": "tu-tf_efficientnet_lite0",
    "encoder_weights": "none",
    "decoder_channels": (16, 16, 8, 8, 8),
    "crop_px": 64,
    "batch_size": 2,
    "epochs": 1,
    "steps_per_epoch": 2,
    "device": "cpu",
    "split": {"test": (), "val": ()},
}


def corrected_slide(folder: Path) -> Path:
    """A slide, its export, and a correction: a focus with another class, and a point."""
    labels = np.full((128, 128), 21, np.uint8)
    labels[20:60, 20:60] = 1
    source = stored_labels(folder / "results" / "a", labels, block_px=128)
    for name in ("exports", "fixed"):
        (folder / name).mkdir()
    write_tiff(folder / "fixed" / "a.tif", [picture(128, 128)], 0.5, 0.5)
    write_geojson(source, folder / "exports" / "a.geojson")
    collection = json.loads((folder / "exports" / "a.geojson").read_text())
    for feature in collection["features"]:
        if feature["properties"]["classification"]["name"] == "tumor":
            feature["properties"]["classification"]["name"] = "other"
    point = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [100, 90]},
        "properties": {"classification": {"name": "Tumor", "color": [200, 0, 0]}},
    }
    collection["features"].append(point)
    (folder / "fixed" / "a.geojson").write_text(json.dumps(collection))
    return folder


def test_a_model_trains_on_corrections_and_points_alone(tmp_path: Path) -> None:
    folder, lines = corrected_slide(tmp_path), list[str]()
    settings = load_train_settings(None, [folder / "fixed"], None, folder / "exports", **QUICK)
    result = train(settings, folder / "model", lines.append)
    card = json.loads((result.folder / "card.json").read_text())
    assert card["training"]["data"]["fixed"]["corrections"] is True
    assert str(tmp_path) not in json.dumps(card)
    assert np.isfinite(result.history[0]["train_loss"])
    shares = {line.split()[1]: line.split()[2] for line in lines if line[:3].strip().isdigit()}
    assert shares == {"tumor": "16.49%", "other": "83.51%"}  # 316 px of a disc, 1600 of a focus


def test_exports_of_a_settings_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "train.toml").write_text('[[data]]\npath = "one"\nexported = "exports"\n')
    (source,) = load_train_settings(tmp_path / "train.toml", [tmp_path]).data
    assert source.exported == tmp_path / "exports"
