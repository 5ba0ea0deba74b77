"""Share of time in which the GPUs compute, as their driver reports it."""

import shutil
import subprocess
import threading
from types import TracebackType

INTERVAL_S = 2.0
"""Time between two samples (s); the driver averages over 1/6 to 1 s. (nvidia-smi,
``utilization.gpu``)"""

_QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")


class GpuUsage:
    """Samples the GPUs while the context is open; without ``nvidia-smi`` there are no samples.

    Args:
        gpus: numbers of the GPUs, e.g. ``("0", "1")``; none: nothing is sampled.
        interval_s: time between two samples (s).
    """

    def __init__(self, gpus: tuple[str, ...], interval_s: float = INTERVAL_S) -> None:
        self._gpus, self._interval_s = gpus, interval_s
        self._program = shutil.which("nvidia-smi") if gpus else None
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="gpu-usage", daemon=True)

    @property
    def busy(self) -> float | None:
        """Mean share of time in which the GPUs computed, 0..1; None without samples."""
        return sum(self._samples) / len(self._samples) if self._samples else None

    def __enter__(self) -> "GpuUsage":
        """Start sampling."""
        if self._program:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._ended.set()
        if self._program:
            self._thread.join()

    def _sample(self) -> None:
        command = [str(self._program), *_QUERY, "--id=" + ",".join(self._gpus)]
        while not self._ended.wait(self._interval_s):
            found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by which
            shares = [int(line) / 100 for line in found.stdout.split() if line.isdigit()]
            if shares:
                self._samples.append(sum(shares) / len(shares))
