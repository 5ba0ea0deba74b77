"""OpenVINO computes the labels of torch, with the same bits in any batch, and sends nothing."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import SIDE, fields
from standins import small_slide

from noctile.pipeline.errors import ModelError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import find_model, make_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.network import Pointwise, build_network, save_model
from noctile.pipeline.models.torch_predictor import TorchPredictor
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

openvino = pytest.importorskip(
    "noctile.pipeline.models.openvino", reason="OpenVINO has no wheel for this system"
)


def model_card(classes: int = 5, **others) -> ModelCard:
    return make_card(fields(classes, **others), "0" * 64)


def network(
    architecture: str = "Unet", encoder: str = "resnet18", classes: int = 5
) -> torch.nn.Module:
    """A network with random statistics of its layers, so that tiles and pixels differ."""
    torch.manual_seed(0)
    net = build_network(
        {"_model_class": architecture, "encoder_name": encoder, "classes": classes}, "config"
    )
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net


def tiles_of(n: int = 2, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small networks are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestOutput:
    @pytest.mark.parametrize(
        ("architecture", "encoder"),
        [
            ("Unet", "resnet18"),
            ("Unet", "tu-tf_efficientnet_lite0"),
            ("UnetPlusPlus", "mobilenet_v2"),
            ("MAnet", "resnet18"),
            ("FPN", "resnet18"),
            ("DeepLabV3Plus", "mobilenet_v2"),
            ("UPerNet", "resnet18"),
            ("Segformer", "mit_b0"),
        ],
    )
    def test_probabilities_equal_those_of_torch_except_for_rounding(self, architecture, encoder):
        net, tiles = network(architecture, encoder), tiles_of()
        expected = TorchPredictor(model_card(), net, threads=1)(tiles).numpy()
        found = openvino.OpenVinoPredictor(model_card(), net, threads=1)(tiles)
        np.testing.assert_allclose(found, expected, atol=1e-4)  # bfloat16 is off by 0.01 and more

    def test_pixels_are_scaled_as_the_card_says(self):
        torch.manual_seed(1)
        net, tiles, card = (
            Pointwise(5),
            tiles_of(),
            model_card(mean=(0.7, 0.5, 0.6), std=(0.2, 0.3, 0.1)),
        )
        found = openvino.OpenVinoPredictor(card, net, threads=1)(tiles)
        np.testing.assert_allclose(
            found, TorchPredictor(card, net, threads=1)(tiles).numpy(), atol=1e-5
        )
        assert (
            np.abs(found - openvino.OpenVinoPredictor(model_card(), net, threads=1)(tiles)).max()
            > 0.1
        )

    def test_a_single_channel_is_the_first_of_two_classes(self):
        net, tiles, card = network(classes=1), tiles_of(), model_card(2)
        expected = TorchPredictor(card, net, threads=1)(tiles).numpy()
        np.testing.assert_allclose(
            openvino.OpenVinoPredictor(card, net, threads=1)(tiles), expected, atol=1e-5
        )

    def test_labels_on_real_tissue_equal_those_of_torch(self, shared_data):
        """At least 99.9 % must be equal; all of 8.9 million were (benchmarks/history)."""
        region = Image.open(shared_data / "bcss" / "images" / "1015.jpg").reduce(2)
        tiles = np.stack(
            [np.asarray(region)[y : y + 512, x : x + 512] for y in (0, 512) for x in (512, 1024)]
        )
        folder = find_model("tumor")
        expected = np.asarray(load_predictor(folder, "cpu", 2)(tiles)).argmax(axis=1)
        assert {0, 1} == set(np.unique(expected))
        assert (
            load_predictor(folder, "cpu", 2, backend="openvino")(tiles).argmax(axis=1) == expected
        ).mean() >= 0.999

    def test_bits_do_not_depend_on_batch_size_nor_on_the_number_of_threads(self):
        net, tiles, card = (
            network(encoder="resnet34", classes=21),
            tiles_of(4, 96),
            model_card(21, tile_px=96),
        )
        one = openvino.OpenVinoPredictor(card, net, threads=1)
        reference = np.concatenate([one(tile[None]) for tile in tiles])
        assert np.array_equal(one(tiles), reference)
        for threads in (2, 3):
            several = openvino.OpenVinoPredictor(card, net, threads=threads)
            assert np.array_equal(several(tiles), reference)
            assert np.array_equal(several(tiles[::-1])[::-1], reference)

    def test_bits_of_labels_do_not_depend_on_them_either(self):
        net, tiles, card = network(classes=21), tiles_of(4), model_card(21)
        one = openvino.OpenVinoPredictor(card, net, threads=1)
        alone = [one.predict_labels(tile[None], slice(8, 57)) for tile in tiles]
        for threads in (1, 3):
            labels = openvino.OpenVinoPredictor(card, net, threads=threads).predict_labels(
                tiles, slice(8, 57)
            )
            for name in ("label", "tumor", "confidence"):
                np.testing.assert_array_equal(
                    getattr(labels, name), np.concatenate([getattr(d, name) for d in alone])
                )

    def test_the_result_belongs_to_the_caller_who_may_change_it(self):
        predict, tiles = (
            openvino.OpenVinoPredictor(model_card(), Pointwise(5), threads=1),
            tiles_of(1),
        )
        first = predict(tiles)
        before = first.copy()
        second = predict(255 - tiles)
        assert np.array_equal(first, before)
        second *= 0
        assert np.array_equal(predict(tiles), before)


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="OpenVINO joins other steps on other CPUs"
)
def test_classes_that_are_computed_one_by_one_are_compared_in_one_loop():
    """Expected steps: scale pixels, the loop, and conversions of label and confidence to bytes."""
    predict = openvino.OpenVinoPredictor(model_card(21), Pointwise(21), threads=1)
    steps = predict._graph(openvino._with_labels).get_runtime_model().get_ordered_ops()
    assert (
        2 <= [str(step.get_rt_info()["layerType"].value) for step in steps].count("Subgraph") <= 4
    )


class TestErrors:
    def test_a_step_that_openvino_does_not_know_is_named_with_a_remedy(self):
        class Strange(Pointwise):
            def forward(self, x):
                return torch.special.bessel_j1(super().forward(x))

        with pytest.raises(
            ModelError, match=r"(?s)'small'.* cannot compute .*--backend torch.*bessel_j1"
        ):
            openvino.OpenVinoPredictor(model_card(), Strange(5))

    def test_the_card_must_have_a_class_for_each_channel(self):
        with pytest.raises(
            ModelError, match="its network has 5 output channels, its card 4 classes"
        ):
            openvino.OpenVinoPredictor(model_card(4), Pointwise(5))


_A_NETWORK = """
import sys
import numpy as np
from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.openvino import OpenVinoPredictor
from noctile.pipeline.models.network import Pointwise
kinds = [{"code": k + 1, "name": f"c{k}", "color": (k, k, k), "role": "tissue"} for k in range(3)]
fields = {"name": "small", "description": "", "classes": kinds, "licence": "CC0-1.0"}
fields |= {"mpp": 0.5, "tile_px": 64}
network = OpenVinoPredictor(make_card({**fields, "overlap_px": 16}, "0" * 64), Pointwise(3))
"""


def test_a_process_survives_a_signal_after_another_thread_freed_a_network(repo):
    """The plugin of OpenVINO would free the signal stack that it gave to this thread."""
    program = (
        _A_NETWORK
        + """
import os, signal, threading
last = [network]
del network
thread = threading.Thread(target=last.clear)
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_openvino_is_imported_without_the_package_that_reports_its_use(repo, tmp_path):
    """That package sends reports and writes to the home folder, which stays empty here."""
    program = (
        _A_NETWORK
        + """
print(network(np.zeros((1, 64, 64, 3), "u1")).shape)
parts = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print(sys.modules["openvino_telemetry"], parts)
"""
    )
    env = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repo,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["(1, 3, 64, 64)", "None []"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_names_its_backend_and_repeats_the_work_of_another_backend(tmp_path):
    small_slide(tmp_path / "a.tif", seed=1, height=700, width=900)
    save_model(tmp_path / "model", network(), fields(mpp=1.0))
    entries, out = find_slides([tmp_path / "a.tif"], None, None).slides, tmp_path / "results"
    slide, keys, labels = out / "slides" / "a", set(), []
    for backend in ("torch", "openvino"):
        settings = RunSettings(
            model=str(tmp_path / "model"), engine="serial", device="cpu", backend=backend, redo=True
        )
        result = run_slides(entries, settings, out, lambda *_: None)
        assert [row.status for row in result.rows] == ["done"]
        summary = json.loads((slide / "summary.json").read_text())
        keys.add(summary["key"])
        mask = json.loads(
            (slide / "mask.ome.zarr" / "labels" / "classes" / "zarr.json").read_text()
        )
        documents = (
            summary,
            mask["attributes"]["noctile"],
            json.loads(max((out / "runs").iterdir()).read_text()),
        )
        assert [document["backend"] for document in documents] == [backend] * 3
        assert summary["versions"]["openvino"] == version("openvino")
        labels.append(MaskStore.open(slide / "mask.ome.zarr").read_level(0))
    assert len(keys) == 2
    assert np.count_nonzero(labels[0]) > 10_000
    assert len(np.unique(labels[0])) > 2
    assert (labels[0] == labels[1]).mean() >= 0.999
