"""Cards, configs and weights that do damage."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from malformed.refusals import DEEP, DIGITS, refusal

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.folder import find_model, read_card, write_card, write_config
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold


@pytest.fixture
def model(tmp_path: Path) -> Path:
    classes = [
        {"code": 2, "name": "stroma", "color": (0, 160, 0), "role": "tissue"},
        {"code": 1, "name": "tumor", "color": (200, 0, 0), "role": "tumor"},
    ]
    about = {
        "name": "m",
        "description": "d",
        "licence": "CC0-1.0",
        "mpp": 0.5,
        "tile_px": 64,
        "overlap_px": 16,
    }
    save_threshold(
        tmp_path / "model", ThresholdConfig(thresholds_od=(0.3,)), {**about, "classes": classes}
    )
    return tmp_path / "model"


CLASS = '{"code": 1, "name": "a", "color": [1, 2, 3], "role": "tumor"}'


CARDS = {
    "deep": DEEP,
    "deep in a field": '{"training": {"a": ' + "[" * 500 + "]" * 500 + "}}",
    "digits": '{"mpp": ' + DIGITS + "}",
    "10 MB of classes": '{"classes": [' + ", ".join([CLASS] * 160_000) + "]}",
    "10 MB of names": '{"' + "n" * 10_000_000 + '": 1}',
    "a million fields": "{" + ",".join(f'"f{k}": 1' for k in range(700_000)) + "}",
    "20 MB": '"' + "a" * 20_000_000 + '"',
    "NaN": "NaN",
    "UTF-16": "\ud7ff",
}


class TestModels:
    @pytest.mark.parametrize("name", CARDS)
    def test_a_bad_card_is_a_short_error(self, model: Path, name: str) -> None:
        (model / "card.json").write_text(CARDS[name], "utf-16" if name == "UTF-16" else "utf-8")
        assert "card.json" in refusal(read_card, model)

    @pytest.mark.parametrize(
        "fields",
        [
            *(
                {"mpp": value}
                for value in (float("nan"), float("inf"), 1e308, 0, -1, "x", None, [], True)
            ),
            *({"mean": [value, 0.5, 0.5]} for value in (float("nan"), float("-inf"), 1e308)),
            *(
                {"std": [value, 0.5, 0.5]}
                for value in (float("nan"), float("inf"), 1e308, 1e-308, 0)
            ),
            *({"name": value} for value in ("../x", "a/b", "", "a\n", "a" * 65, "\0")),
            {"tile_px": 2**31},
            {"overlap_px": 10**30},
            {"sha256": "../../etc/passwd"},
            {"path": "/etc/passwd"},
        ],
        ids=str,
    )
    def test_an_impossible_field_is_named(self, model: Path, fields: dict[str, Any]) -> None:
        card = json.loads((model / "card.json").read_text())
        (model / "card.json").write_text(json.dumps(card | fields))
        if fields == {"mpp": True}:
            pytest.skip("true is 1, which is a pixel size")
        with pytest.raises(ModelError, match=next(iter(fields))):
            read_card(model)

    @pytest.mark.parametrize("name", ["card.json", "config.json"])
    def test_a_pipe_in_the_folder_of_a_model_is_an_error(self, model: Path, name: str) -> None:
        (model / name).unlink()
        os.mkfifo(model / name)
        assert f"has no {name}" in refusal(find_model, model)
        assert "pipe or a device" in refusal(load_predictor, model)

    @pytest.mark.parametrize(
        "config",
        [DEEP, '{"thresholds_od": [' + DIGITS + "]}", '{"kind": "threshold", "x": 1}', "[]"],
    )
    def test_a_bad_config_is_an_error(self, model: Path, config: str) -> None:
        (model / "config.json").write_text(config)
        card = json.loads((model / "card.json").read_text())
        assert "config.json" in refusal(load_predictor, sealed(model, card))

    @pytest.mark.parametrize(
        "settings",
        [
            {"_model_class": "Unet", "decoder_channels": [2**30] * 5},
            {"_model_class": "Unet", "decoder_channels": [1] * 10_000},
            {"_model_class": "Unet", "encoder_depth": 10**9},
            {"_model_class": "Unet", "classes": 10**9},
            {"_model_class": "PSPNet", "psp_out_channels": 2**31},
            {"_model_class": "Unet", "encoder_name": "../../evil"},
            {"_model_class": "Unet", "encoder_name": "hf-hub:somebody/evil"},
            {"_model_class": "__import__"},
        ],
        ids=str,
    )
    def test_a_network_of_absurd_size_or_name_is_not_built(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        from noctile.pipeline.models.network import build_network

        assert "config" in refusal(build_network, settings, "config")

    def test_weights_that_are_a_pickle_are_not_opened(self, tmp_path: Path) -> None:
        folder, trap = network(tmp_path), tmp_path / "sprung"
        with (folder / "model.safetensors").open("wb") as file:
            pickle.dump(Trap(trap), file)
        assert "cannot be read" in refusal(load_predictor, seal(folder))
        assert not trap.exists()

    def test_weights_of_other_shapes_and_types_are_errors(self, tmp_path: Path) -> None:
        folder = network(tmp_path)
        for dtype in (torch.float8_e4m3fn, torch.complex64, torch.bool):
            weights = {
                "weight": torch.zeros(2, 3, 1, 1).to(dtype),
                "bias": torch.zeros(2).to(dtype),
            }
            safetensors.torch.save_file(weights, folder / "model.safetensors")
            assert "model.safetensors" in refusal(load_predictor, seal(folder))
        (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
        assert "cannot be read" in refusal(load_predictor, seal(folder))


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def network(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    write_config(folder, {"_model_class": "Pointwise", "classes": 2})
    safetensors.torch.save_file(
        {"weight": torch.zeros(2, 3, 1, 1), "bias": torch.zeros(2)}, folder / "model.safetensors"
    )
    return seal(folder)


def seal(folder: Path) -> Path:
    """Write the card of a network of two classes, with the hash of its weights."""
    classes = [{"code": k, "name": f"c{k}", "color": (k, k, k), "role": "tissue"} for k in (1, 2)]
    about = {
        "name": "n",
        "description": "d",
        "licence": "CC0-1.0",
        "mpp": 0.5,
        "tile_px": 64,
        "overlap_px": 16,
    }
    write_card(folder, {**about, "classes": classes})
    return folder


def sealed(model: Path, card: dict[str, Any]) -> Path:
    """Write the hash of a model's config into its card."""
    import hashlib

    sha256 = hashlib.sha256((model / "config.json").read_bytes()).hexdigest()
    (model / "card.json").write_text(json.dumps(card | {"sha256": sha256}))
    return model
