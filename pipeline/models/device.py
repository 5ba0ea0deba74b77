"""Where networks are computed: the CPU, or which GPUs. Torch is imported only where there may be
one.
"""

import os
import re
import sys

from noctile.pipeline.errors import UsageError

_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Without one of these a Linux machine has no GPU for torch: NVIDIA's driver, AMD's, Windows'
(WSL)."""


def may_be_gpu(device: str) -> bool:
    """Whether a device (as for `resolve_device`) may turn out to be a GPU; tells at once, without
    torch.
    """
    return device != "cpu" and (sys.platform != "linux" or any(map(os.path.exists, _GPU_NODES)))


def resolve_device(device: str) -> str:
    """The device that is meant: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is ``cuda`` where torch
    finds one.

    Raises:
        UsageError: if the device is unknown, or is not in this machine.
    """
    if device == "cpu":
        return device
    count = gpu_count()
    if device == "auto":
        return "cuda" if count else "cpu"
    asked = re.fullmatch(r"cuda(?::(\d+))?", device)
    if asked is None:
        raise UsageError(f"device '{device}' is unknown; use auto, cpu, cuda or cuda:N")
    if int(asked[1] or 0) >= count:
        raise UsageError(f"device '{device}' is not here: torch finds {count} GPUs; use cpu")
    return device


def gpu_count() -> int:
    """GPUs that torch finds in this machine."""
    if not may_be_gpu("auto"):
        return 0  # spares the run's main process torch
    import torch  # noqa: PLC0415 - takes seconds, and only a GPU needs it

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpus_of(device: str) -> tuple[str, ...]:
    """The GPUs that a device (of `resolve_device`) means: all of them for ``cuda``, none for
    ``cpu``.

    Returns:
        the driver's names for them, fit for ``CUDA_VISIBLE_DEVICES``: where that variable is set
        already (Slurm does), its own entries, else numbers.
    """
    if device == "cpu":
        return ()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or list(map(str, range(gpu_count())))
    return tuple(names) if device == "cuda" else (names[int(device.removeprefix("cuda:"))],)
