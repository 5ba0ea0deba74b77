"""Memory of the machine that the GPU of this process copies from and to. Torch is not imported for
it.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def bring(fields: Sequence[Any], places: Sequence[npt.NDArray[Any]]) -> None:
    """Copy arrays from wherever they were computed to places in the machine's memory; they are
    there on return.
    """
    cuda = _cuda()
    for values, place in zip(fields, places, strict=True):
        if cuda is None:
            place[...] = np.asarray(values)
        else:
            sys.modules["torch"].from_numpy(place).copy_(values, non_blocking=True)
    if cuda is not None:
        done = cuda.Event(blocking=True)  # who waits for it leaves its core to others
        done.record()
        done.synchronize()


def pin(memory: npt.NDArray[np.uint8]) -> bool:
    """Let the GPU of this process copy from and to memory by itself; whether it does, and is to be
    told the end.
    """
    cuda = _cuda()
    return (
        cuda is not None
        and int(cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)) == 0
    )


def unpin(memory: npt.NDArray[np.uint8]) -> None:
    """The end of `pin`."""
    _cuda().cudart().cudaHostUnregister(memory.ctypes.data)


def is_broken() -> bool:
    """Whether the GPU can no longer be used from this process, for something went wrong on it."""
    cuda = _cuda()
    try:
        if cuda is not None:
            cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _cuda() -> Any:
    """Torch's module for GPUs, where this process computes on one; else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
