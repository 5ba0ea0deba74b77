"""Environment of worker processes."""

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}
"""Memory settings of glibc for workers on the CPU, whose arrays of some megabytes come and go with
every tile. By default glibc maps each array anew, or keeps a heap for every thread. These settings
save a sixth of the time and a tenth of the memory. (benchmarks/history/memory.md)"""


def worker_env(threads: int, *, gpus: bool) -> dict[str, str]:
    """Environment variables of workers.

    Args:
        threads: threads that each worker computes with.
        gpus: True if the workers compute on GPUs.
    """
    return {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"} | ({} if gpus else MALLOC)
