"""How busy the GPUs were, as their driver says it."""

import shutil
import subprocess
import threading
from types import TracebackType

INTERVAL_S = 2.0
"""Between two looks (s); the driver itself averages over 1/6 to 1 s. (nvidia-smi,
``utilization.gpu``)"""

_QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")


class GpuUsage:
    """Looks at the GPUs from time to time while the context is open; sees nothing where there is no
    ``nvidia-smi``.

    Args:
        gpus: their numbers, e.g. ``("0", "1")``; none: it does not look.
        interval_s: between two looks (s).
    """

    def __init__(self, gpus: tuple[str, ...], interval_s: float = INTERVAL_S) -> None:
        self._gpus, self._interval_s = gpus, interval_s
        self._program = shutil.which("nvidia-smi") if gpus else None
        self._seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="gpu-watch", daemon=True)

    @property
    def busy(self) -> float | None:
        """Mean share of time that the GPUs computed, 0..1; None where nobody could look."""
        return sum(self._seen) / len(self._seen) if self._seen else None

    def __enter__(self) -> "GpuUsage":
        """Begin."""
        if self._program:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self._over.set()
        if self._program:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self._interval_s):
            command = [str(self._program), *_QUERY, "--id=" + ",".join(self._gpus)]
            found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by which
            shares = [int(line) / 100 for line in found.stdout.split() if line.isdigit()]
            if shares:
                self._seen.append(sum(shares) / len(shares))
