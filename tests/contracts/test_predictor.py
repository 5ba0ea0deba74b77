"""What every predictor does, whatever looks at the tiles."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import array_api_compat
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.network import save_model
from noctile.pipeline.models.predictor import predict_labels
from noctile.pipeline.models.threshold import ThresholdConfig, ThresholdPredictor
from noctile.pipeline.models.torch_predictor import TorchPredictor
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.inference.server import InferenceServers

SIDE = 96


def model_card(classes: int):
    kinds = [
        {"code": k + 1, "name": f"c{k}", "color": (k, k, k), "role": "tissue" if k else "tumor"}
        for k in range(classes)
    ]
    fields = {"name": "small", "description": "", "classes": kinds, "licence": "CC0-1.0"}
    return make_card({**fields, "mpp": 0.5, "tile_px": SIDE, "overlap_px": 32}, "0" * 64)


def network(classes: int, seed: int = 0):
    """A ResNet-34 U-Net whose statistics are not those of an untrained one, so that tiles and
    pixels differ."""
    torch.manual_seed(seed)
    net = smp.Unet("resnet34", encoder_weights=None, classes=classes)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net


def host(probabilities) -> np.ndarray:
    return np.asarray(array_api_compat.to_device(probabilities, "cpu"))


@pytest.fixture(scope="module")
def tiles():
    return np.random.default_rng(7).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


class PredictorContract:
    classes = 4
    tolerance = 0.0  # between batches; 0: the same bits

    def test_each_pixel_has_a_probability_for_each_class_of_the_card(self, predict, tiles):
        p = predict(tiles)
        assert array_api_compat.is_array_api_obj(p)
        assert p.shape == (4, self.classes, SIDE, SIDE)
        assert len(predict.card.classes) == self.classes
        assert host(p).dtype == np.float32

    def test_probabilities_of_a_pixel_sum_to_one(self, predict, tiles):
        p = host(predict(tiles))
        assert p.min() >= 0
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)

    def test_different_tiles_have_different_answers(self, predict, tiles):
        p = host(predict(tiles))
        assert np.ptp(p[0], axis=(1, 2)).max() > 0.01
        assert np.abs(p[0] - p[1]).max() > 0.01

    def test_its_decisions_are_those_of_its_probabilities(self, predict, tiles):
        part = slice(16, 81)
        decision, p = predict_labels(predict, tiles, part), host(predict(tiles))[:, :, part, part]
        winner, tumor, confidence = (
            host(v) for v in (decision.label, decision.tumor, decision.confidence)
        )
        assert {v.dtype.name for v in (winner, tumor, confidence)} == {"uint8"}
        assert winner.shape == (4, 65, 65)
        assert (
            np.take_along_axis(p, winner[:, None], axis=1)[:, 0]
            >= p.max(axis=1) - 1e-5 - self.tolerance
        ).all()
        assert np.abs(confidence - 255 * p.max(axis=1)).max() <= 0.51 + 255 * self.tolerance
        assert np.abs(tumor - 255 * p[:, 0]).max() <= 0.51 + 255 * self.tolerance

    def test_the_same_call_gives_the_same_bits(self, predict, tiles):
        assert np.array_equal(host(predict(tiles)), host(predict(tiles)))

    def test_a_tile_has_one_answer_in_any_batch_and_place(self, predict, tiles):
        whole = host(predict(tiles))
        alone = np.concatenate([host(predict(tiles[i : i + 1])) for i in range(4)])
        turned = host(predict(tiles[::-1]))[::-1]
        np.testing.assert_allclose(alone, whole, rtol=0, atol=self.tolerance)
        np.testing.assert_allclose(turned, whole, rtol=0, atol=self.tolerance)

    def test_several_threads_may_call_it_at_once(self, predict, tiles):
        expected = host(predict(tiles[:1])), host(predict(tiles[1:2]))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: host(predict(tiles[i % 2 : i % 2 + 1])), range(8)))
        assert all(np.array_equal(p, expected[i % 2]) for i, p in enumerate(found))

    def test_tiles_are_left_as_they_are_and_may_be_read_only(self, predict, tiles):
        frozen = tiles.copy()
        frozen.flags.writeable = False
        host(predict(frozen))
        assert np.array_equal(frozen, tiles)

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((1, 64, 64, 3), np.uint8),
            np.zeros((1, SIDE, SIDE, 4), np.uint8),
            np.zeros((1, 3, SIDE, SIDE), np.uint8),
            np.zeros((SIDE, SIDE, 3), np.uint8),
            np.zeros((0, SIDE, SIDE, 3), np.uint8),
            np.zeros((1, SIDE, SIDE, 3), np.float32),
        ],
        ids=["side", "alpha", "channels first", "no batch", "empty batch", "float"],
    )
    def test_anything_but_the_cards_tiles_is_refused(self, predict, wrong):
        with pytest.raises(ValueError, match=r"takes uint8 \[n, 96, 96, 3\]"):
            predict(wrong)


class TestThreshold(PredictorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return ThresholdPredictor(
            model_card(cls.classes), ThresholdConfig(thresholds_od=(0.1, 0.3, 0.6))
        )


class TestUNetOnTheCpu(PredictorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(cls.classes), threads=2)


class TestUNetWithOneChannel(PredictorContract):
    classes = 2

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(1), threads=1)


def openvino_predictor(*args, **kwargs):
    """Skips where the extra is not installed."""
    return pytest.importorskip("noctile.pipeline.models.openvino").OpenVinoPredictor(
        *args, **kwargs
    )


class TestOpenVino(PredictorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return openvino_predictor(model_card(cls.classes), network(cls.classes), threads=2)


class TestOpenVinoWithOneChannel(PredictorContract):
    classes = 2

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return openvino_predictor(model_card(cls.classes), network(1), threads=1)


class ServedContract(PredictorContract):
    """What another process answers."""

    device = "cpu"

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("served")
        save_model(
            folder, network(cls.classes), model_card(cls.classes).model_dump(exclude={"sha256"})
        )
        with closing(
            InferenceServers(["0"], partial(load_predictor, folder, cls.device, 2))
        ) as servers:
            yield ServedPredictor(servers.addresses["0"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
class TestServed(ServedContract):
    pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestServedFromTheGpu(ServedContract):
    tolerance, device = 0.02, "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestUNetOnTheGpu(PredictorContract):
    tolerance = 0.02  # float16

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(cls.classes), device="cuda")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestUNetCompiledForTheGpu(PredictorContract):
    tolerance = 0.02

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(
            model_card(cls.classes), network(cls.classes), device="cuda", compiled=True
        )

    def test_the_first_calls_may_come_from_several_threads_at_once(self, tiles):
        fresh = TorchPredictor(
            model_card(self.classes), network(self.classes), device="cuda", compiled=True
        )
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(
                lambda _: host(predict_labels(fresh, tiles, slice(16, 81)).label), range(2)
            )
        assert np.array_equal(first, second)
