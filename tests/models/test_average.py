"""The mean of models: what the shipped one is made by."""

from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.numpy import load_file

from benchmarks.average import average
from pipeline.errors import ModelError
from pipeline.models.load import load_predictor, read_card
from pipeline.models.unet import save_model


def saved(folder: Path, seed: int, classes: int = 2, mpp: float = 0.5) -> Path:
    """A small model of seeded weights, as a training leaves it."""
    torch.manual_seed(seed)
    net = smp.Unet("mobilenet_v2", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8), classes=classes)
    kinds = [{"code": k + 1, "name": f"c{k}", "color": (k, k, k), "role": "tissue"} for k in range(classes)]
    fields = {"name": "small", "description": "", "classes": kinds, "licence": "CC0-1.0", "mpp": mpp}
    save_model(folder, net, {**fields, "tile_px": 64, "overlap_px": 16, "training": {"seed": seed}}, half=True)
    for name in ("scheme.toml", "split.csv"):
        (folder / name).write_text(f"{name}\n")
    return folder


def test_weights_are_the_weighted_mean_and_the_card_has_both_trainings(tmp_path):
    folders = [saved(tmp_path / name, seed) for seed, name in enumerate("ab")]
    average(folders, tmp_path / "mean", (3, 1))
    one, two, mean = (load_file(f / "model.safetensors") for f in (*folders, tmp_path / "mean"))
    for name, values in mean.items():
        assert values.dtype == one[name].dtype
        if values.dtype.kind == "f":
            wanted = 0.75 * one[name].astype(float) + 0.25 * two[name]
            assert np.allclose(values, wanted, atol=1e-3), name
    card = read_card(tmp_path / "mean")
    assert [(part["share"], part["seed"]) for part in card.training["mean_of"]] == [(3, 0), (1, 1)]
    tiles = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    assert np.isfinite(np.asarray(load_predictor(tmp_path / "mean", "cpu", threads=1)(tiles))).all()


@pytest.mark.parametrize("other", [{"classes": 3}, {"mpp": 0.25}])
def test_models_of_different_kinds_have_no_mean(tmp_path, other):
    with pytest.raises(ModelError, match="cards differ"):
        average([saved(tmp_path / "a", 0), saved(tmp_path / "b", 1, **other)], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
