"""Which device is meant, and which GPUs that are; torch is asked only where there may be one."""

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

    def test_without_a_driver_torch_is_not_asked(self, monkeypatch):
        monkeypatch.setattr(device, "_GPU_NODES", ("/dev/no-such-node",))
        monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it fails
        assert device.gpu_count() == 0

    @pytest.mark.parametrize(
        ("gpus", "asked", "meant"),
        [
            (0, "auto", "cpu"),
            (2, "auto", "cuda"),
            (2, "cpu", "cpu"),
            (1, "cuda", "cuda"),
            (2, "cuda:1", "cuda:1"),
        ],
    )
    def test_a_device_that_is_here_is_taken(self, monkeypatch, gpus, asked, meant):
        see_gpus(monkeypatch, gpus)
        assert device.resolve_device(asked) == meant

    @pytest.mark.parametrize(("gpus", "asked"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
    def test_a_device_that_is_not_here_is_refused_and_never_replaced(
        self, monkeypatch, gpus, asked
    ):
        see_gpus(monkeypatch, gpus)
        with pytest.raises(
            UsageError, match=f"device '{asked}' is not here: torch finds {gpus} GPUs"
        ):
            device.resolve_device(asked)

    @pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:-1", "cuda:x", ""])
    def test_an_unknown_device_is_refused(self, asked):
        with pytest.raises(UsageError, match="is unknown; use auto, cpu"):
            device.resolve_device(asked)


class TestGpusOf:
    def test_the_cpu_is_none(self):
        assert device.gpus_of("cpu") == ()

    def test_all_or_one_by_number(self, monkeypatch):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(device, "gpu_count", lambda: 3)
        assert device.gpus_of("cuda") == ("0", "1", "2")
        assert device.gpus_of("cuda:2") == ("2",)

    def test_those_that_the_queue_gave_us_and_no_others(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7a")
        assert device.gpus_of("cuda") == ("5", "GPU-7a")
        assert device.gpus_of("cuda:1") == ("GPU-7a",)
