"""Devices and their GPUs; torch is imported only if there may be a GPU."""

import sys

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models import device


def see_gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


class TestDevices:
    @pytest.fixture(autouse=True)
    def _with_a_driver(self, tmp_path, monkeypatch):
        monkeypatch.setattr(device, "_GPU_NODES", (str(tmp_path),))

    def test_without_a_driver_torch_is_not_imported(self, monkeypatch):
        monkeypatch.setattr(device, "_GPU_NODES", ("/dev/no-such-node",))
        monkeypatch.setitem(sys.modules, "torch", None)  # an import fails
        assert device.gpu_count() == 0

    @pytest.mark.parametrize(
        ("gpus", "name", "expected"),
        [
            (0, "auto", "cpu"),
            (2, "auto", "cuda"),
            (2, "cpu", "cpu"),
            (1, "cuda", "cuda"),
            (2, "cuda:1", "cuda:1"),
        ],
    )
    def test_a_device_that_exists_is_used(self, monkeypatch, gpus, name, expected):
        see_gpus(monkeypatch, gpus)
        assert device.resolve_device(name) == expected

    @pytest.mark.parametrize(("gpus", "name"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
    def test_a_missing_device_is_refused_and_never_replaced(self, monkeypatch, gpus, name):
        see_gpus(monkeypatch, gpus)
        with pytest.raises(
            UsageError, match=f"device '{name}' is not here: torch finds {gpus} GPUs"
        ):
            device.resolve_device(name)

    @pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", ""])
    def test_an_unknown_device_is_refused(self, name):
        with pytest.raises(UsageError, match="is unknown; use auto, cpu"):
            device.resolve_device(name)


class TestGpusOf:
    def test_the_cpu_has_no_gpus(self):
        assert device.gpus_of("cpu") == ()

    def test_cuda_is_all_gpus_and_a_number_is_one(self, monkeypatch):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(device, "gpu_count", lambda: 3)
        assert device.gpus_of("cuda") == ("0", "1", "2")
        assert device.gpus_of("cuda:2") == ("2",)

    def test_only_the_gpus_in_cuda_visible_devices_are_used(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7a")
        assert device.gpus_of("cuda") == ("5", "GPU-7a")
        assert device.gpus_of("cuda:1") == ("GPU-7a",)
