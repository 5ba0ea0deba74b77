"""Model folders: find, read and check them, and the errors of folders that cannot be used."""

import json
import pickle
from pathlib import Path

import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models import folder as folders
from noctile.pipeline.models.load import load_predictor
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
    monkeypatch.setattr(folders, "_ZOO", tmp_path / "zoo")
    return tmp_path / "zoo"


def change(folder: Path, **fields) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **fields}))


class TestFinding:
    def test_installed_models_are_the_folders_with_a_card_sorted_by_name(self, zoo):
        assert folders.installed_models() == {"a": zoo / "a", "b": zoo / "b"}

    def test_every_installed_model_has_the_name_of_its_folder_and_its_own_weights(self):
        for name, folder in folders.installed_models().items():
            card = folders.read_card(folders.find_model(name))
            assert card.name == name
            folders.verify_weights(folder, card)

    def test_a_name_is_an_installed_model_and_a_path_is_a_folder(self, zoo, folder):
        assert folders.find_model("a") == zoo / "a"
        assert folders.find_model(folder) == folders.find_model(str(folder)) == folder

    def test_an_installed_name_comes_before_a_folder_of_that_name(self, zoo, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        folder.rename("a")
        assert folders.find_model("a") == zoo / "a"
        assert folders.find_model("./a").resolve() == folder.parent / "a"

    def test_an_unknown_name_is_refused_with_the_installed_names(self, zoo):
        with pytest.raises(
            ModelError, match=r"'c' is neither an installed model nor a folder; installed: a, b"
        ):
            folders.find_model("c")

    def test_a_file_is_not_a_model(self, folder):
        with pytest.raises(
            ModelError,
            match=r"is a file; .* a folder with card\.json, config\.json and model\.safetensors",
        ):
            folders.find_model(folder / "config.json")

    def test_missing_files_of_a_folder_are_named(self, folder):
        (folder / "card.json").unlink()
        with pytest.raises(ModelError, match=r"has no card\.json; docs"):
            folders.find_model(folder)
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"has no card\.json and no config\.json"):
            folders.find_model(folder)


class TestCard:
    def test_a_card_is_read_as_it_was_written(self, folder):
        card = folders.read_card(folder)
        assert (card.name, card.mpp, card.tile_px, card.classes[1].name) == (
            "dark",
            0.5,
            64,
            "tumor",
        )
        assert card.sha256 == folders.sha256_of(folder / "config.json")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"tile_px": 100}, r"tile_px must be a multiple of 32; found 100"),
            ({"mpp": -1}, r"mpp must be more than 0; found -1"),
            (
                {"overlap_px": 64},
                r"overlap_px \(64\) must be smaller than tile_px \(64\)",
            ),
            ({"classes": []}, r"classes must have 1 or more values"),
            (
                {"classes": [{"code": 0, "name": "x", "color": [0, 0, 0], "role": "tumor"}]},
                r"classes\.0\.code must be 1 or more; found 0$",
            ),
            ({"colour": "red"}, r"colour is unknown; did you mean 'classes\.color'\?"),
            ({"sha256": "ABC"}, r"sha256 must have 64 of .*; found \"ABC\""),
        ],
    )
    def test_a_wrong_field_is_named_with_file_and_value(self, folder, fields, message):
        change(folder, **fields)
        with pytest.raises(ModelError, match=r"card\.json cannot be used:\n  " + message):
            folders.read_card(folder)

    def test_a_missing_field_is_named(self, folder):
        card = json.loads((folder / "card.json").read_text())
        del card["licence"]
        (folder / "card.json").write_text(json.dumps(card))
        with pytest.raises(ModelError, match=r"card\.json cannot be used:\n  licence is missing$"):
            folders.read_card(folder)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"{", "cannot be read: Expecting"),
            (b"[]", "a JSON list, not an object"),
            (b"\xff", "cannot be read: 'utf-8'"),
        ],
    )
    def test_a_file_without_a_json_object_is_refused(self, folder, content, message):
        (folder / "card.json").write_bytes(content)
        with pytest.raises(ModelError, match=message):
            folders.read_card(folder)


class TestWeights:
    def test_altered_weights_are_refused_with_both_hashes(self, folder):
        card = folders.read_card(folder)
        with (folder / "config.json").open("a") as file:
            file.write(" ")
        found = folders.sha256_of(folder / "config.json")
        with pytest.raises(ModelError, match=f"sha256 is {found}, the card says {card.sha256}"):
            folders.verify_weights(folder, card)
        with pytest.raises(ModelError, match="does not belong to its card"):
            load_predictor(folder, "cpu")

    def test_a_network_without_weights_is_refused(self, folder):
        (folder / "config.json").write_text('{"_model_class": "Unet"}')
        with pytest.raises(ModelError, match=r"has no model\.safetensors; docs"):
            load_predictor(folder, "cpu")

    def test_pickled_weights_are_refused_and_never_run(self, folder):
        trap = folder.parent / "sprung"

        class Trap:
            def __reduce__(self):
                return Path.touch, (trap,)

        (folder / "config.json").write_text('{"_model_class": "Unet"}')
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
        change(folder, sha256=folders.sha256_of(folder / "pytorch_model.bin"))
        with pytest.raises(
            ModelError,
            match=r"no model\.safetensors, only pytorch_model\.bin; Noctile never opens",
        ):
            load_predictor(folder, "cpu")
        assert not trap.exists()
        pickle.loads((folder / "pytorch_model.bin").read_bytes())
        assert trap.exists(), "the trap must work, or this test shows nothing"
