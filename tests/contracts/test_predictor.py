"""The contract of every predictor, for each backend and device."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

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
from noctile.testing.predictor import PredictorContract, host
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
    """A ResNet-34 U-Net with random statistics of its layers, so that tiles and pixels differ."""
    torch.manual_seed(seed)
    net = smp.Unet("resnet34", encoder_weights=None, classes=classes)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net


class TestThreshold(PredictorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return ThresholdPredictor(
            model_card(cls.classes), ThresholdConfig(thresholds_od=(0.1, 0.3, 0.6))
        )


class TestTorchOnTheCpu(PredictorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(cls.classes), threads=2)


class TestTorchWithOneChannel(PredictorContract):
    classes = 2

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(1), threads=1)


def openvino_predictor(*args, **kwargs):
    """A predictor of OpenVINO; skips the test if the extra is not installed."""
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
    """The contract of a predictor in another process."""

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


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous shared memory exists on Linux only")
class TestServed(ServedContract):
    pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestServedFromTheGpu(ServedContract):
    tolerance, device = 0.02, "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestTorchOnTheGpu(PredictorContract):
    tolerance = 0.02  # float16

    @pytest.fixture(scope="class")
    @classmethod
    def predict(cls):
        return TorchPredictor(model_card(cls.classes), network(cls.classes), device="cuda")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestTorchCompiledForTheGpu(PredictorContract):
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
