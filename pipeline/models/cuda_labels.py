"""Labels on an NVIDIA GPU in one kernel.

The kernel reads the logits once and writes three bytes a pixel. The same steps in torch take eleven
times as long, which is an eighth of the network's time. (benchmarks/history/gpu.md) The kernel is
compiled when a model is loaded, by the compiler of NVIDIA that torch installs; no CUDA toolkit is
needed.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch

try:  # recent releases of torch for Linux install these packages
    from cuda.bindings import driver, nvrtc  # type: ignore[import-untyped]
except ImportError:
    driver = nvrtc = None

LabelsOnGpu = Callable[[torch.Tensor], torch.Tensor]
"""Function from logits to labels on a GPU.

Logits are float16 or float32 ``[n, channels, h, w]`` in any order of memory. The result holds the
three fields of `PixelLabels`, uint8 ``[3, n, h, w]``."""

_THREADS = 256
"""Number of threads in a block; each computes one pixel."""

_SOURCE = r"""
__device__ float number(const float* x) { return *x; }
__device__ float number(const unsigned short* x) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(*x));
    return v;
}

template <typename T>
__device__ void label_pixel(const T* logits, unsigned char* out, int n, int h, int w,
                            long long sn, long long sc, long long sh, long long sw) {
    const long long all = (long long)n * h * w;
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= all) return;
    const T* x = logits + p / ((long long)h * w) * sn + p / w % h * sh + p % w * sw;
    const float infinity = __int_as_float(0x7f800000);
    float best = -infinity, sum = 0, tumor = 0;  // both sums are of exp(logit - best)
    int label = 0;
    for (int c = 0; c < CHANNELS; ++c) {
        const float v = number(x + c * sc), is_tumor = TUMOR[c >> 5] >> (c & 31) & 1;
        if (v > best) {
            const float less = expf(best - v);
            sum = sum * less + 1;
            tumor = tumor * less + is_tumor;
            best = v;
            label = c;
        } else {
            const float share = expf(v - best);
            sum += share;
            tumor += is_tumor * share;
        }
    }
    const bool known = sum == sum && best < infinity;
    out[p] = label;
    out[p + all] = known ? __float2int_rn(tumor / sum * 255) : 0;
    out[p + 2 * all] = known ? __float2int_rn(1 / sum * 255) : 0;
}

extern "C" __global__ void half(const unsigned short* logits, unsigned char* out,
                                int n, int h, int w,
                                long long sn, long long sc, long long sh, long long sw) {
    label_pixel(logits, out, n, h, w, sn, sc, sh, sw);
}

extern "C" __global__ void single(const float* logits, unsigned char* out, int n, int h, int w,
                                  long long sn, long long sc, long long sh, long long sw) {
    label_pixel(logits, out, n, h, w, sn, sc, sh, sw);
}
"""

_ARGUMENT_TYPES = (ctypes.c_void_p,) * 2 + (ctypes.c_int,) * 3 + (ctypes.c_longlong,) * 4
"""Types of the kernels' arguments."""

_NAMES = {torch.float16: b"half", torch.float32: b"single"}


def labels_on_gpu(channels: int, tumor: Sequence[int], device: torch.device) -> LabelsOnGpu | None:
    """Make the kernel for a model.

    Args:
        channels: number of channels of the logits; at most 255.
        tumor: channels of the tumor classes.
        device: a GPU.

    Returns:
        None if the GPU is not from NVIDIA, or torch installed no compiler.
    """
    if driver is None or torch.version.cuda is None:
        return None
    try:
        with torch.cuda.device(device):
            code = compile_kernels(channels, tumor, torch.cuda.get_device_capability())
            torch.cuda.synchronize()  # makes torch's context of the GPU, and makes it current
            module = _value(driver.cuModuleLoadData(code))
            kernels = {
                kind: _value(driver.cuModuleGetFunction(module, name))
                for kind, name in _NAMES.items()
            }
    except (RuntimeError, OSError):
        return None

    def label_pixels(logits: torch.Tensor) -> torch.Tensor:
        n, _, h, w = logits.shape
        out = torch.empty(3, n, h, w, dtype=torch.uint8, device=logits.device)
        values = (logits.data_ptr(), out.data_ptr(), n, h, w, *logits.stride())
        blocks = -(-n * h * w // _THREADS)
        stream = torch.cuda.current_stream(logits.device).cuda_stream
        with torch.cuda.device(logits.device):
            kernel = kernels[logits.dtype]
            _value(
                driver.cuLaunchKernel(
                    kernel, blocks, 1, 1, _THREADS, 1, 1, 0, stream, (values, _ARGUMENT_TYPES), 0
                )
            )
        return out

    return label_pixels


def compile_kernels(channels: int, tumor: Sequence[int], capability: tuple[int, int]) -> bytes:
    """Machine code of the kernels. Compilation needs no GPU.

    Args:
        channels: number of channels of the logits; at most 255.
        tumor: channels of the tumor classes.
        capability: compute capability of the GPU, e.g. (9, 0).

    Raises:
        RuntimeError: if the compiler reports an error.
    """
    words = [sum(1 << k % 32 for k in tumor if k // 32 == word) for word in range(8)]
    masks = ", ".join(f"{word}u" for word in words)
    source = (
        f"#define CHANNELS {channels}\n__constant__ unsigned TUMOR[8] = {{{masks}}};\n{_SOURCE}"
    )
    program = _value(nvrtc.nvrtcCreateProgram(source.encode(), b"labels.cu", 0, [], []))
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}".encode()]
    _value(nvrtc.nvrtcCompileProgram(program, len(options), options))
    code: bytes = b" " * _value(nvrtc.nvrtcGetCUBINSize(program))
    _value(nvrtc.nvrtcGetCUBIN(program, code))
    _value(nvrtc.nvrtcDestroyProgram(program))
    return code


def _value(result: tuple[Any, ...]) -> Any:
    """The value that a call of the CUDA bindings returns beside its error code.

    Raises:
        RuntimeError: if the code is that of an error.
    """
    error, *values = result
    if int(error):
        raise RuntimeError(f"{error!r}")
    return values[0] if values else None
