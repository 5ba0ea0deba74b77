"""Networks: build, save and load them, and the errors of configs and weights that are refused."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from small_networks import fields, network, plainly, tiles_of

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.folder import find_model, make_card, read_card, sha256_of, write_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.network import Pointwise, build_network, load_network, save_model
from noctile.pipeline.models.torch_predictor import TorchPredictor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def set_config(folder, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def set_weights(folder, weights) -> None:
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    write_card(folder, fields())


class TestPointwise:
    def test_each_pixel_is_labelled_by_its_own_color(self):
        torch.manual_seed(1)
        net, tiles = Pointwise(5), tiles_of()
        p = TorchPredictor(make_card(fields(), "0" * 64), net)(tiles).numpy()
        np.testing.assert_allclose(
            p, plainly(torch.nn.Conv2d.forward.__get__(net), tiles), atol=1e-6
        )

    def test_a_config_may_name_it(self):
        net = build_network({"_model_class": "Pointwise", "classes": 21}, "config.json")
        assert sum(p.numel() for p in net.parameters()) == 21 * 4


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("architecture", "encoder"),
        [
            ("Unet", "resnet34"),
            ("Unet", "tu-tf_efficientnet_lite0"),
            ("FPN", "resnet18"),
            ("DeepLabV3Plus", "mobilenet_v2"),
            ("Segformer", "mit_b0"),
        ],
    )
    def test_a_loaded_network_gives_the_same_output_as_the_saved_one(
        self, tmp_path, architecture, encoder
    ):
        net = network(architecture, encoder)
        card = save_model(tmp_path / "model", net, fields())
        loaded = load_predictor(tmp_path / "model", "cpu")
        assert loaded.card == card == read_card(tmp_path / "model")
        assert torch.equal(loaded(tiles_of()), TorchPredictor(card, net)(tiles_of()))

    def test_segmentation_models_pytorch_reads_the_folder(self, saved):
        expected = plainly(network(), tiles_of())
        np.testing.assert_allclose(
            plainly(smp.from_pretrained(str(saved)).eval(), tiles_of()), expected, atol=1e-6
        )

    def test_a_folder_of_segmentation_models_pytorch_is_read(self, tmp_path):
        net = network()
        net.save_pretrained(tmp_path)
        write_card(tmp_path, fields())
        np.testing.assert_allclose(
            load_predictor(tmp_path, "cpu")(tiles_of()).numpy(), plainly(net, tiles_of()), atol=1e-4
        )

    def test_the_example_in_the_documentation_makes_a_model_that_loads(
        self, repo, tmp_path, monkeypatch
    ):
        page = (repo / "docs" / "model-folder.md").read_text(encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        exec(page.split("```python\n")[1].split("```")[0], {})
        predict = load_predictor(find_model("my-model"), "cpu")
        assert predict.card.tile_px == 512
        assert [c.name for c in predict.card.classes] == ["tumor", "other"]

    def test_half_precision_halves_the_file_and_is_read_as_float32(self, saved, tmp_path):
        card = save_model(tmp_path, network(), fields(), half=True)
        sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path, saved)]
        assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.01)
        assert card.sha256 == sha256_of(tmp_path / "model.safetensors")
        found = load_predictor(tmp_path, "cpu")(tiles_of())
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), plainly(network(), tiles_of()), atol=0.02)

    def test_saving_the_same_network_twice_writes_the_same_bytes(self, saved, tmp_path):
        save_model(tmp_path, network(), fields())
        for file in ("config.json", "model.safetensors", "card.json"):
            assert (tmp_path / file).read_bytes() == (saved / file).read_bytes()

    def test_the_seed_network_has_as_many_parameters_as_it_should(self):
        net = build_network(
            {"_model_class": "Unet", "encoder_name": "resnet34", "classes": 21}, "config"
        )
        assert sum(p.numel() for p in net.parameters()) == 24_439_269

    def test_pretrained_weights_and_activations_in_a_config_are_ignored(self, folder, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("nothing may be downloaded")

        monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", refuse)
        expected = load_predictor(folder, "cpu")(tiles_of())
        set_config(folder, encoder_weights="imagenet", activation="softmax2d")
        assert torch.equal(load_predictor(folder, "cpu")(tiles_of()), expected)


class TestConfigsThatAreRefused:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (
                {"_model_class": "os.system"},
                r"_model_class must be 'Unet', .*; found \"os\.system\"",
            ),
            ({"_model_class": "create_model"}, r"_model_class must be 'Unet'"),
            ({"_model_class": "DPT"}, r"_model_class must be 'Unet'"),
            (
                {"encoder_name": "tu-hf-hub:someone/network"},
                r"encoder_name must have only the characters",
            ),
            ({"encoder_name": "../mobilenet_v2"}, r"encoder_name must have only the characters"),
            ({"encoder_name": 18}, r"encoder_name must be text; found 18"),
            ({"encoder_name": "mobilenet_v9"}, r"Unet refuses it: KeyError"),
            ({"encoder_depth": 4}, r"Unet refuses it: ValueError"),
            ({"in_channels": 4}, r"in_channels must be 3; found 4"),
            ({"classes": "many"}, r"classes must be a whole number"),
            (
                {"activation": "sigmoid"},
                r"sigmoid over several channels lets a pixel have several classes",
            ),
            ({"activation": "tanh"}, r"activation must be .*; found \"tanh\""),
            ({"aux_params": {"classes": 2}}, r"aux_params must be left out"),
            (
                {"checkpoint_path": "x.pth"},
                r"Unet of .* has no setting checkpoint_path; it has encoder_name,",
            ),
        ],
    )
    def test_a_wrong_config_is_refused_with_file_and_setting(self, folder, values, message):
        set_config(folder, **values)
        with pytest.raises(ModelError, match=r"(?s)config\.json.*" + message):
            load_predictor(folder, "cpu")

    def test_a_config_without_a_network_is_refused(self, folder):
        (folder / "config.json").write_text("{}")
        with pytest.raises(ModelError, match=r"_model_class is missing"):
            load_predictor(folder, "cpu")

    def test_a_network_with_output_smaller_than_the_tile_is_refused(self):
        with pytest.raises(ModelError, match="tiles of 64 x 64 px come out as 16 x 16 px"):
            TorchPredictor(make_card(fields(), "0" * 64), network("FPN", upsampling=1))

    def test_a_network_that_cannot_compute_the_tile_is_refused(self):
        with pytest.raises(
            ModelError, match=r"takes no tiles of 64 px: RuntimeError: .* too small"
        ):
            TorchPredictor(make_card(fields(), "0" * 64), network("PAN"))


class TestWeightsThatAreRefused:
    def weights(self, folder):
        return safetensors.torch.load_file(folder / "model.safetensors")

    def test_missing_and_unexpected_tensors_are_counted_and_the_first_named(self, folder):
        weights = self.weights(folder)
        renamed = {
            ("old." + k if k.startswith("segmentation_head") else k): v for k, v in weights.items()
        }
        set_weights(folder, renamed)
        with pytest.raises(ModelError) as error:
            load_predictor(folder, "cpu")
        assert "2 missing: segmentation_head.0.bias, segmentation_head.0.weight" in str(error.value)
        assert "2 unexpected: old.segmentation_head.0.bias, old.segmentation_head.0.weight" in str(
            error.value
        )

    def test_many_tensors_are_counted_and_three_named(self, folder):
        set_weights(
            folder, {k: v for k, v in self.weights(folder).items() if not k.startswith("encoder")}
        )
        with pytest.raises(
            ModelError, match=r"\d{3} missing: encoder\.\S+, encoder\.\S+, encoder\.\S+, \.\.\.$"
        ):
            load_predictor(folder, "cpu")

    def test_a_tensor_of_another_shape_is_named_with_both_shapes(self, folder):
        set_config(folder, classes=7)
        with pytest.raises(
            ModelError,
            match=r"2 different: segmentation_head\.0\.bias is float32 \[5\] .* float32 \[7\]",
        ):
            load_predictor(folder, "cpu")

    def test_whole_numbers_in_place_of_weights_are_refused(self, folder):
        weights = self.weights(folder)
        weights["segmentation_head.0.bias"] = weights["segmentation_head.0.bias"].to(torch.int8)
        set_weights(folder, weights)
        with pytest.raises(
            ModelError, match=r"1 different: segmentation_head\.0\.bias is int8 \[5\]"
        ):
            load_predictor(folder, "cpu")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_refused(self, folder, value):
        weights = self.weights(folder)
        weights["segmentation_head.0.bias"][2] = value
        set_weights(folder, weights)
        with pytest.raises(
            ModelError, match=r"not finite:\n  1 tensors: segmentation_head\.0\.bias$"
        ):
            load_predictor(folder, "cpu")

    def test_a_damaged_file_is_refused_even_if_its_hash_stands_in_the_card(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        write_card(folder, fields())
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read: "):
            load_network(folder)

    @pytest.mark.parametrize("classes", [1, 4, 6])
    def test_the_card_must_have_a_class_for_each_channel(self, folder, classes):
        write_card(folder, fields(classes))
        with pytest.raises(
            ModelError, match=f"its network has 5 output channels, its card {classes} classes"
        ):
            load_predictor(folder, "cpu")

    @pytest.mark.parametrize("classes", [1, 3])
    def test_a_single_channel_needs_a_card_of_two_classes(self, classes):
        with pytest.raises(
            ModelError, match=f"its network has 1 output channels, its card {classes} classes"
        ):
            TorchPredictor(make_card(fields(classes), "0" * 64), network(classes=1))


class TestNetworksThatCannotBeSaved:
    def refuse(self, tmp_path, net, card_fields, message, **how):
        with pytest.raises(ModelError, match=message):
            save_model(tmp_path / "model", net, card_fields, **how)
        assert not (tmp_path / "model").exists()

    def test_fields_that_do_not_make_a_card(self, tmp_path):
        self.refuse(
            tmp_path,
            network(),
            fields(tile_px=100),
            r"the model card cannot be used:\n  tile_px must",
        )

    def test_a_card_for_another_number_of_classes(self, tmp_path):
        self.refuse(tmp_path, network(), fields(4), "5 output channels, its card 4 classes")

    def test_a_network_that_could_not_be_loaded_again(self, tmp_path):
        self.refuse(
            tmp_path,
            network(aux_params={"classes": 2}),
            fields(),
            "the network cannot be used:\n  aux_params",
        )

    def test_weights_too_large_for_half_precision(self, tmp_path):
        net = network()
        with torch.no_grad():
            net.segmentation_head[0].bias[0] = 1e6
        self.refuse(tmp_path, net, fields(), "1 tensors: segmentation_head.0.bias", half=True)
