"""Model folders: found, read, checked; and what is said of one that cannot be used."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models import load
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold

FIELDS = {
    "name": "dark",
    "description": "dark is tumor",
    "classes": [
        {"code": 2, "name": "stroma", "color": (0, 160, 0), "role": "tissue"},
        {"code": 1, "name": "tumor", "color": (200, 0, 0), "role": "tumor"},
    ],
    "licence": "CC0-1.0",
    "mpp": 0.5,
    "tile_px": 64,
    "overlap_px": 16,
}


@pytest.fixture
def folder(tmp_path) -> Path:
    save_threshold(tmp_path / "model", ThresholdConfig(thresholds_od=(0.3,)), FIELDS)
    return tmp_path / "model"


@pytest.fixture
def zoo(tmp_path, monkeypatch) -> Path:
    for name in ("b", "a"):
        save_threshold(tmp_path / "zoo" / name, ThresholdConfig(thresholds_od=(0.3,)), FIELDS)
    (tmp_path / "zoo" / "__pycache__").mkdir()
    monkeypatch.setattr(load, "_ZOO", tmp_path / "zoo")
    return tmp_path / "zoo"


def change(folder: Path, **fields) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **fields}))


class TestFinding:
    def test_installed_models_are_the_folders_with_a_card_sorted_by_name(self, zoo):
        assert load.installed_models() == {"a": zoo / "a", "b": zoo / "b"}

    def test_every_model_that_ships_carries_its_folders_name_and_its_own_weights(self):
        for name, folder in load.installed_models().items():
            card = load.read_card(load.find_model(name))
            assert card.name == name
            load.verify_weights(folder, card)

    def test_a_name_is_looked_up_among_the_installed_and_a_path_is_a_folder(self, zoo, folder):
        assert load.find_model("a") == zoo / "a"
        assert load.find_model(folder) == load.find_model(str(folder)) == folder

    def test_an_installed_name_comes_before_a_folder_of_that_name(self, zoo, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        folder.rename("a")
        assert load.find_model("a") == zoo / "a"
        assert load.find_model("./a").resolve() == folder.parent / "a"

    def test_an_unknown_name_is_answered_with_what_is_installed(self, zoo):
        with pytest.raises(
            ModelError, match=r"'c' is neither an installed model nor a folder; installed: a, b"
        ):
            load.find_model("c")

    def test_a_file_is_no_model(self, folder):
        with pytest.raises(
            ModelError,
            match=r"is a file; .* a folder with card\.json, config\.json and model\.safetensors",
        ):
            load.find_model(folder / "config.json")

    def test_what_a_folder_lacks_is_named(self, folder):
        (folder / "card.json").unlink()
        with pytest.raises(ModelError, match=r"has no card\.json; docs"):
            load.find_model(folder)
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"has no card\.json and no config\.json"):
            load.find_model(folder)


class TestCard:
    def test_a_card_is_read_as_it_was_written(self, folder):
        card = load.read_card(folder)
        assert (card.name, card.mpp, card.tile_px, card.classes[1].name) == (
            "dark",
            0.5,
            64,
            "tumor",
        )
        assert card.sha256 == load.sha256_of(folder / "config.json")

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"tile_px": 100}, r"tile_px: .*multiple of 32 \(found 100\)"),
            ({"mpp": -1}, r"mpp: .*greater than 0 \(found -1\)"),
            (
                {"overlap_px": 64},
                r"as a whole: .*overlap_px \(64\) must be smaller than tile_px \(64\)",
            ),
            ({"classes": []}, r"classes: .*at least 1 item"),
            (
                {"classes": [{"code": 0, "name": "x", "color": [0, 0, 0], "role": "tumor"}]},
                r"classes\.0\.code: .*found 0",
            ),
            ({"colour": "red"}, r"colour: Extra inputs are not permitted \(found 'red'\)"),
            ({"sha256": "ABC"}, r"sha256: .*\(found 'ABC'\)"),
        ],
    )
    def test_a_wrong_field_is_named_with_file_and_value(self, folder, fields, says):
        change(folder, **fields)
        with pytest.raises(ModelError, match=r"card\.json cannot be used:\n  " + says):
            load.read_card(folder)

    def test_a_missing_field_is_named(self, folder):
        card = json.loads((folder / "card.json").read_text())
        del card["licence"]
        (folder / "card.json").write_text(json.dumps(card))
        with pytest.raises(
            ModelError, match=r"card\.json cannot be used:\n  licence: Field required$"
        ):
            load.read_card(folder)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"{", "cannot be read: Expecting"),
            (b"[]", "a JSON list, not an object"),
            (b"\xff", "cannot be read: 'utf-8'"),
        ],
    )
    def test_what_is_no_json_object_is_refused(self, folder, content, says):
        (folder / "card.json").write_bytes(content)
        with pytest.raises(ModelError, match=says):
            load.read_card(folder)


class TestWeights:
    def test_altered_weights_are_refused_with_both_hashes(self, folder):
        card = load.read_card(folder)
        with (folder / "config.json").open("a") as file:
            file.write(" ")
        found = load.sha256_of(folder / "config.json")
        with pytest.raises(ModelError, match=f"sha256 is {found}, the card says {card.sha256}"):
            load.verify_weights(folder, card)
        with pytest.raises(ModelError, match="not what its card was written for"):
            load.load_predictor(folder, "cpu")

    def test_a_network_without_weights_is_refused(self, folder):
        (folder / "config.json").write_text('{"_model_class": "Unet"}')
        with pytest.raises(ModelError, match=r"has no model\.safetensors; docs"):
            load.load_predictor(folder, "cpu")

    def test_pickled_weights_are_refused_and_never_run(self, folder):
        trap = folder.parent / "sprung"

        class Trap:
            def __reduce__(self):
                return Path.touch, (trap,)

        (folder / "config.json").write_text('{"_model_class": "Unet"}')
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
        change(folder, sha256=load.sha256_of(folder / "pytorch_model.bin"))
        with pytest.raises(
            ModelError,
            match=r"no model\.safetensors, only pytorch_model\.bin; pickled weights are never",
        ):
            load.load_predictor(folder, "cpu")
        assert not trap.exists()
        pickle.loads((folder / "pytorch_model.bin").read_bytes())
        assert trap.exists(), "the trap must work, or this test shows nothing"


def test_listing_and_reading_models_does_not_import_torch(folder, repo):
    program = f"""
import sys
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.models.load import find_model, installed_models, load_predictor, read_card, verify_weights
for folder in [*installed_models().values(), find_model({str(folder)!r})]:
    verify_weights(folder, read_card(folder))
resolve_device("cpu")
load_predictor(find_model({str(folder)!r}))
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"torch", "timm", "segmentation_models_pytorch"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
