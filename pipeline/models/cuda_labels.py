"""What is decided of each pixel on an NVIDIA GPU, in one kernel: logits are read once, and nothing
else is written.

By torch's own steps it takes eleven times as long, an eighth of the network's time.
(benchmarks/RESULTS.md) The kernel is compiled when a model is loaded, by NVIDIA's compiler that
torch brings along; no toolkit is needed.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch

try:  # torch depends on them on Linux; not every release did
    from cuda.bindings import driver, nvrtc  # type: ignore[import-untyped]
except ImportError:
    driver = nvrtc = None

LabelsOnGpu = Callable[[torch.Tensor], torch.Tensor]
"""Logits, float16 or float32 ``[n, channels, h, w]`` in any order of memory, to the three fields of
a `PixelLabels`, uint8 ``[3, n, h, w]``."""

_THREADS = 256
"""In a block; each decides a pixel."""

_SOURCE = r"""
__device__ float number(const float* x) { return *x; }
__device__ float number(const unsigned short* x) { float v; asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(*x)); return v; }

template <typename T>
__device__ void decide(const T* logits, unsigned char* out, int n, int h, int w,
                       long long sn, long long sc, long long sh, long long sw) {
    const long long all = (long long)n * h * w, p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= all) return;
    const T* x = logits + p / ((long long)h * w) * sn + p / w % h * sh + p % w * sw;
    const float infinity = __int_as_float(0x7f800000);
    float best = -infinity, sum = 0, tumor = 0;  // both sums are of exp(logit - best)
    int winner = 0;
    for (int c = 0; c < CHANNELS; ++c) {
        const float v = number(x + c * sc), is_tumor = TUMOR[c >> 5] >> (c & 31) & 1;
        if (v > best) {
            const float less = expf(best - v);
            sum = sum * less + 1;
            tumor = tumor * less + is_tumor;
            best = v;
            winner = c;
        } else {
            const float share = expf(v - best);
            sum += share;
            tumor += is_tumor * share;
        }
    }
    const bool known = sum == sum && best < infinity;
    out[p] = winner;
    out[p + all] = known ? __float2int_rn(tumor / sum * 255) : 0;
    out[p + 2 * all] = known ? __float2int_rn(1 / sum * 255) : 0;
}

extern "C" __global__ void half(const unsigned short* logits, unsigned char* out, int n, int h, int w,
                                long long sn, long long sc, long long sh, long long sw) {
    decide(logits, out, n, h, w, sn, sc, sh, sw);
}

extern "C" __global__ void single(const float* logits, unsigned char* out, int n, int h, int w,
                                  long long sn, long long sc, long long sh, long long sw) {
    decide(logits, out, n, h, w, sn, sc, sh, sw);
}
"""

_KINDS = (ctypes.c_void_p,) * 2 + (ctypes.c_int,) * 3 + (ctypes.c_longlong,) * 4
"""Of the kernels' arguments."""

_NAMES = {torch.float16: b"half", torch.float32: b"single"}


def labels_on_gpu(channels: int, tumor: Sequence[int], device: torch.device) -> LabelsOnGpu | None:
    """The kernel for a model; None where it cannot be made: no NVIDIA GPU, or a torch that brings
    no compiler.

    Args:
        channels: of the logits; at most 255.
        tumor: channels that are tumor.
        device: a GPU.
    """
    if driver is None or torch.version.cuda is None:
        return None
    try:
        with torch.cuda.device(device):
            code = compiled(channels, tumor, torch.cuda.get_device_capability())
            torch.cuda.synchronize()  # torch's context of the GPU is there, and current
            module = _checked(driver.cuModuleLoadData(code))
            kernels = {
                kind: _checked(driver.cuModuleGetFunction(module, name))
                for kind, name in _NAMES.items()
            }
    except (RuntimeError, OSError):
        return None

    def decide(logits: torch.Tensor) -> torch.Tensor:
        n, _, h, w = logits.shape
        out = torch.empty(3, n, h, w, dtype=torch.uint8, device=logits.device)
        values = (logits.data_ptr(), out.data_ptr(), n, h, w, *logits.stride())
        blocks, stream = (
            -(-n * h * w // _THREADS),
            torch.cuda.current_stream(logits.device).cuda_stream,
        )
        with torch.cuda.device(logits.device):
            kernel = kernels[logits.dtype]
            _checked(
                driver.cuLaunchKernel(
                    kernel, blocks, 1, 1, _THREADS, 1, 1, 0, stream, (values, _KINDS), 0
                )
            )
        return out

    return decide


def compiled(channels: int, tumor: Sequence[int], capability: tuple[int, int]) -> bytes:
    """Machine code of the kernels; no GPU is needed for it.

    Args:
        channels: of the logits.
        tumor: channels that are tumor.
        capability: of the GPU, e.g. (9, 0).

    Raises:
        RuntimeError: if the compiler refuses.
    """
    words = [sum(1 << k % 32 for k in tumor if k // 32 == word) for word in range(8)]
    masks = ", ".join(f"{word}u" for word in words)
    source = (
        f"#define CHANNELS {channels}\n__constant__ unsigned TUMOR[8] = {{{masks}}};\n{_SOURCE}"
    )
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"decide.cu", 0, [], []))
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}".encode()]
    _checked(nvrtc.nvrtcCompileProgram(program, len(options), options))
    code: bytes = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return code


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call of the bindings gives beside its error code.

    Raises:
        RuntimeError: if that is one.
    """
    error, *values = answer
    if int(error):
        raise RuntimeError(f"{error!r}")
    return values[0] if values else None
