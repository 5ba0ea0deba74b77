"""Choice of a predictor and a backend."""

import subprocess
import sys

import pytest
from standins import card

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models import load
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.models.load import load_predictor, modules_to_import, resolve_backend
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold


@pytest.fixture
def folder(tmp_path):
    fields = card().model_dump(exclude={"sha256"})
    save_threshold(tmp_path, ThresholdConfig(thresholds_od=(0.3, 0.6)), fields)
    return tmp_path


def test_models_are_listed_and_read_without_torch(folder, repo):
    program = f"""
import sys
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.models.folder import find_model, installed_models, read_card, verify_weights
from noctile.pipeline.models.load import load_predictor
for folder in [*installed_models().values(), find_model({str(folder)!r})]:
    verify_weights(folder, read_card(folder))
resolve_device("cpu")
load_predictor(find_model({str(folder)!r}))
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"torch", "timm", "segmentation_models_pytorch"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


class TestBackend:
    @pytest.mark.parametrize(
        ("backend", "device", "expected"),
        [
            ("auto", "cpu", "openvino"),
            ("auto", "cuda", "torch"),
            ("auto", "cuda:1", "torch"),
            ("torch", "cpu", "torch"),
            ("openvino", "cpu", "openvino"),
        ],
    )
    def test_auto_is_openvino_on_the_cpu_if_it_is_installed(self, backend, device, expected):
        pytest.importorskip("openvino", reason="OpenVINO has no wheel for this system")
        assert resolve_backend(backend, device) == expected

    def test_auto_is_torch_without_openvino(self, monkeypatch):
        monkeypatch.setattr(load, "find_spec", lambda name: None)
        assert resolve_backend("auto", "cpu") == "torch"

    def test_a_backend_that_is_not_installed_is_refused_with_what_to_do(self, monkeypatch):
        monkeypatch.setattr(load, "find_spec", lambda name: None)
        with pytest.raises(
            UsageError, match=r"not installed; pip install openvino, or use --backend torch"
        ):
            load_predictor(find_model("tumor"), "cpu", backend="openvino")

    def test_openvino_is_refused_on_a_gpu(self):
        with pytest.raises(
            UsageError,
            match=r"runs on the CPU, not on cuda; add --device cpu, or use --backend torch",
        ):
            resolve_backend("openvino", "cuda")

    def test_an_unknown_backend_is_refused(self):
        with pytest.raises(
            UsageError, match="backend 'onnx' is unknown; use auto, torch or openvino"
        ):
            resolve_backend("onnx", "cpu")


def test_a_threshold_model_needs_no_module_of_a_network(folder):
    assert modules_to_import(folder, read_card(folder), "torch") == (
        "noctile.pipeline.models.threshold",
    )


def test_a_network_needs_the_module_of_its_backend():
    model = find_model("tumor")
    assert modules_to_import(model, read_card(model), "torch") == (
        "noctile.pipeline.models.torch_predictor",
    )
