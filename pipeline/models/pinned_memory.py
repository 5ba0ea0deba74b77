"""Copies between the GPU of this process and pinned host memory, without importing torch.

The functions use torch only if this process has imported it already.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import UInt8


def copy_to_host(sources: Sequence[Any], targets: Sequence[npt.NDArray[Any]]) -> None:
    """Copy arrays from any device to host memory, and wait until the copies are complete."""
    cuda = _cuda()
    for source, target in zip(sources, targets, strict=True):
        if cuda is None:
            target[...] = np.asarray(source)
        else:
            sys.modules["torch"].from_numpy(target).copy_(source, non_blocking=True)
    if cuda is not None:
        done = cuda.Event(blocking=True)  # while this thread waits, its core is free for others
        done.record()
        done.synchronize()


def pin(memory: UInt8) -> bool:
    """Pin host memory, so that the GPU of this process copies from and to it directly.

    Returns:
        True if the memory is pinned; then call `unpin` before it is freed.
    """
    cuda = _cuda()
    return (
        cuda is not None
        and int(cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)) == 0
    )


def unpin(memory: UInt8) -> None:
    """Undo `pin`."""
    _cuda().cudart().cudaHostUnregister(memory.ctypes.data)


def gpu_is_broken() -> bool:
    """True if an earlier error on the GPU makes it unusable for the rest of this process."""
    cuda = _cuda()
    try:
        if cuda is not None:
            cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _cuda() -> Any:
    """Torch's module for GPUs if this process computes on one; else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
