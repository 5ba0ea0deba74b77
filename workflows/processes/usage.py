"""Use of the machine by a run: share of time in which its GPUs and cores compute, and work done."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

import psutil

INTERVAL_S = 2.0
"""Time between two readings (s); the GPUs' driver averages over 1/6 to 1 s. (nvidia-smi,
``utilization.gpu``)"""

MOST = 200
"""Most samples of a run. A night of 10 h has one sample for each 256 s, which is the mean of 128
readings."""

_QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")

Work = Callable[[], tuple[int, int]]
"""Function that returns the number of slides done and of tiles predicted so far."""


@dataclass(slots=True)
class Samples:
    """Samples of a run; each list has one value for each sample.

    Attributes:
        seconds: end of the sample (s after the start).
        gpu_busy: mean share of the sample in which the GPUs computed, 0..1; None: unknown.
        cpu_seconds: time that the cores have computed for the run so far (s); None: unknown.
        slides_done: number of slides done so far.
        tiles: number of tiles predicted so far.
    """

    seconds: list[float] = field(default_factory=list)
    gpu_busy: list[float | None] = field(default_factory=list)
    cpu_seconds: list[float | None] = field(default_factory=list)
    slides_done: list[int] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)

    def halve(self) -> None:
        """Join each two samples to one."""
        for name in ("seconds", "cpu_seconds", "slides_done", "tiles"):
            setattr(self, name, getattr(self, name)[1::2])
        pairs = zip(self.gpu_busy[::2], self.gpu_busy[1::2], strict=True)
        self.gpu_busy = [_mean([share for share in pair if share is not None]) for pair in pairs]


class Usage:
    """Samples a run while the context is open, at most `MOST` times.

    When all samples are filled, each two are joined, and the interval doubles.

    Args:
        gpus: numbers of the GPUs, e.g. ``("0", "1")``. Without GPUs or without ``nvidia-smi``,
            ``gpu_busy`` is unknown.
        work: work done so far.
        own_workers: False if the run's processes are not children of this one.
        interval_s: time between two readings (s).
    """

    def __init__(
        self,
        gpus: tuple[str, ...],
        work: Work,
        *,
        own_workers: bool = True,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._gpus, self._work, self._interval_s = gpus, work, interval_s
        self._program = shutil.which("nvidia-smi") if gpus else None
        self._own_workers, self._cpu = own_workers, _CpuTime()
        self._samples, self._begun = Samples(), time.perf_counter()
        self._readings: list[float | None] = []  # of the sample that is being made
        self._per_sample = 1
        self._all: list[float] = []  # sum and number of all readings
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)

    @property
    def busy(self) -> float | None:
        """Mean share of time in which the GPUs computed, 0..1; None without readings."""
        return self._all[0] / self._all[1] if self._all else None

    def record(self) -> dict[str, Any]:
        """Samples so far, each list by its name in `Samples`; rounded."""
        with self._lock:
            lists = asdict(self._samples)
        return {name: [_round(value) for value in values] for name, values in lists.items()}

    def __enter__(self) -> "Usage":
        """Start sampling."""
        self._begun = time.perf_counter()
        self._cpu.begin()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sampling; the last sample ends now."""
        self._ended.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._readings.append(self._gpu_busy())
            if len(self._readings) >= self._per_sample:
                self._sample()

    def _sample(self) -> None:
        """End a sample."""
        samples, (slides, tiles) = self._samples, self._work()
        known = [share for share in self._readings if share is not None]
        with self._lock:
            if len(samples.seconds) >= MOST:
                samples.halve()
                self._per_sample *= 2
            samples.seconds.append(time.perf_counter() - self._begun)
            samples.gpu_busy.append(_mean(known))
            samples.cpu_seconds.append(self._cpu.seconds() if self._own_workers else None)
            samples.slides_done.append(slides)
            samples.tiles.append(tiles)
        self._readings = []

    def _gpu_busy(self) -> float | None:
        """Mean share of the GPUs now, as their driver says; None if it does not say."""
        if not self._program:
            return None
        command = [self._program, *_QUERY, "--id=" + ",".join(self._gpus)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by which
        share = _mean([int(line) / 100 for line in found.stdout.split() if line.isdigit()])
        if share is not None:
            total, n = self._all or (0.0, 0)
            self._all = [total + share, n + 1]
        return share


class _CpuTime:
    """Time that the cores have computed for this process and its children since its beginning."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._of: dict[psutil.Process, float] = {}  # those that have ended keep their time
        self._before = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self._before += self.seconds()

    def seconds(self) -> float:
        """Sum over all processes (s)."""
        for process in (self._own, *self._own.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._of[process] = times.user + times.system
        return sum(self._of.values()) - self._before


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
