"""Charts of the last run over time: tiles per second, and share of time in which GPUs compute."""

from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.report.charts import Chart, bar_chart

_BARS = 48


@dataclass(frozen=True, slots=True)
class RunUsage:
    """Samples of a run, as its record has them.

    Attributes:
        start: start of the run, as text.
        seconds: float64 ``[n]``, end of each sample (s after the start), ascending, n >= 1.
        tiles: float64 ``[n]``, tiles predicted so far, not descending.
        gpu_busy: float64 ``[n]``, share of each sample in which the GPUs computed, 0..1; NaN where
            it is unknown.
        cpu_seconds: float64 ``[n]``, time that the cores have computed so far (s); NaN where it is
            unknown.
        cores: number of cores that the run could use.
        device: device of the run.
    """

    start: str
    seconds: Float64
    tiles: Float64
    gpu_busy: Float64
    cpu_seconds: Float64
    cores: int
    device: str

    @property
    def note(self) -> str:
        """Sentence about GPUs that were not there or not measured; "" if they were measured."""
        if np.isfinite(self.gpu_busy).any():
            return ""
        if self.device.startswith("cuda"):
            return "The driver did not say how busy the GPUs were."
        return f"No GPU was there: this run computed on the device {self.device}."


def time_axis(seconds: float) -> tuple[str, float]:
    """Unit in which a duration reads well, and its length (s)."""
    if seconds < 120:
        return "s", 1.0
    return ("min", 60.0) if seconds < 7200 else ("h", 3600.0)


def usage_charts(usage: RunUsage) -> list[Chart]:
    """Charts of what is known: tiles per second, GPU busy, CPU busy."""
    unit, length_s = time_axis(float(usage.seconds[-1]))
    edges_s = np.linspace(0, float(usage.seconds[-1]), min(_BARS, len(usage.seconds)) + 1)
    axis = f"time since the run began ({unit})"
    widths = np.diff(usage.seconds, prepend=0.0)
    known = np.nan_to_num(usage.gpu_busy)
    tiles = _rates(edges_s, usage.seconds, usage.tiles)
    shown: list[tuple[str, str, Float64, float | None]]
    shown = [("Tiles", "tiles per second", tiles, None)]
    if np.isfinite(usage.gpu_busy).any():
        busy = 100 * _rates(edges_s, usage.seconds, np.cumsum(known * widths))
        shown.append(("GPU busy, mean of all GPUs", "GPU busy (%)", busy, 100.0))
    if np.isfinite(usage.cpu_seconds).all():
        busy = 100 * _rates(edges_s, usage.seconds, usage.cpu_seconds) / max(1, usage.cores)
        title = f"CPU busy, mean of {usage.cores} cores"
        shown.append((title, "CPU busy (%)", busy.clip(0, 100), 100.0))
    return [
        bar_chart(title, (axis, label), edges_s / length_s, bars, _facts(bars), highest)
        for title, label, bars, highest in shown
    ]


def _rates(edges_s: Float64, seconds: Float64, total: Float64) -> Float64:
    """Growth of a running total per second, float64 ``[n - 1]``, between edges (s)."""
    at_edges = np.interp(edges_s, np.append(0.0, seconds), np.append(0.0, total))
    rates: Float64 = (np.diff(at_edges) / np.diff(edges_s)).clip(min=0)
    return rates


def _facts(bars: Float64) -> str:
    return f"mean {bars.mean():.3g}, from {bars.min():.3g} to {bars.max():.3g}"
