"""The device that computes networks: the CPU, or some of the GPUs.

Torch is imported only if the machine may have a GPU.
"""

import os
import re
import sys

from noctile.pipeline.errors import UsageError
from noctile.pipeline.wrong_values import matching

_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA's driver, AMD's driver and Windows (WSL). A Linux machine without any of
them has no GPU for torch."""

check_device_name = matching(r"auto|cpu|cuda(:[0-9]+)?", "must be auto, cpu, cuda or cuda:N")
"""Check of the name of a device."""


def may_be_gpu(device: str) -> bool:
    """True if a device may be a GPU. The answer is immediate and does not need torch.

    Args:
        device: auto, cpu, cuda or cuda:N.
    """
    return device != "cpu" and (sys.platform != "linux" or any(map(os.path.exists, _GPU_NODES)))


def resolve_device(device: str) -> str:
    """The device for a run: ``cpu``, ``cuda`` or ``cuda:N``.

    ``auto`` becomes ``cuda`` if torch finds a GPU, else ``cpu``.

    Raises:
        UsageError: if the device is unknown, or this machine does not have it.
    """
    if device == "cpu":
        return device
    count = gpu_count()
    if device == "auto":
        return "cuda" if count else "cpu"
    parts = re.fullmatch(r"cuda(?::(\d+))?", device)
    if parts is None:
        raise UsageError(f"device '{device}' is unknown; use auto, cpu, cuda or cuda:N")
    if int(parts[1] or 0) >= count:
        raise UsageError(f"device '{device}' is not here: torch finds {count} GPUs; use cpu")
    return device


def gpu_count() -> int:
    """Number of GPUs that torch finds in this machine."""
    if not may_be_gpu("auto"):
        return 0  # without the import of torch
    import torch  # noqa: PLC0415 - takes seconds, and only a GPU needs it

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpus_of(device: str) -> tuple[str, ...]:
    """Names of the GPUs of a device: all GPUs for ``cuda``, none for ``cpu``.

    Args:
        device: a result of `resolve_device`.

    Returns:
        names for ``CUDA_VISIBLE_DEVICES``: the entries of that variable if it is set (Slurm sets
        it), else numbers.
    """
    if device == "cpu":
        return ()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or list(map(str, range(gpu_count())))
    return tuple(names) if device == "cuda" else (names[int(device.removeprefix("cuda:"))],)
