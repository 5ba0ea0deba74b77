"""Time and memory of the spatial measures of a slide of 100,000 x 80,000 px at 0.25 um, all tissue.

    python -m benchmarks.measures [--threads 1]

Writes the label map of such a slide at 0.5 um: one block of tumor, stroma and plasma cells with
structures of about 30 um, which stands at every place. The time is that of the CPU.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.common import machine
from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.spatial.compute import measure_space
from noctile.pipeline.spatial.sampling import sample_labels
from noctile.pipeline.truth.scheme import BCSS_CODES, BUILT_IN

BLOCK_PX, ROWS, COLS = 4096, 10, 12
"""Side of a block (px), and numbers of blocks: 49,152 x 40,960 px of 0.5 um."""


def tissue() -> UInt8:
    """Labels of one block."""
    rng = np.random.default_rng(0)
    small = BLOCK_PX // 8
    tumor, cells = (
        ndimage.zoom(ndimage.gaussian_filter(rng.standard_normal((small, small)), s), 8, order=1)
        for s in (6, 4)
    )
    labels = np.full((BLOCK_PX, BLOCK_PX), BCSS_CODES["stroma"], np.uint8)
    labels[cells > cells.std()] = BCSS_CODES["plasma_cells"]
    labels[tumor > 0] = BCSS_CODES["tumor"]
    return labels


def label_map(folder: Path) -> MaskStore:
    """Write a label map without its pyramid."""
    frame = Frame(Extent(ROWS * BLOCK_PX, COLS * BLOCK_PX), 0.5, 0.5)
    layout = MaskLayout(frame, BLOCK_PX, 1024, BUILT_IN["bcss21"].classes)
    thumbnail = np.zeros((frame.extent.height // 256, frame.extent.width // 256, 3), np.uint8)
    about = {"slide": {"mpp": [0.5, 0.5], "bounds_px": [0, 0, 1, 1]}}
    store = MaskStore.create(folder / "mask.ome.zarr", layout, thumbnail, frame.coarser(256), about)
    heat = np.zeros((BLOCK_PX // 8, BLOCK_PX // 8), np.uint8)
    store.write(layout.shard_box(0, 0), tissue(), heat, heat)
    for row in range(ROWS):
        for col in range(COLS):
            path = store.shard_path((row, col), 0)
            path.parent.mkdir(exist_ok=True)
            if (row, col) != (0, 0):
                os.link(store.shard_path((0, 0), 0), path)
    return store


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and CPU time of a call (s)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def memory_mb(name: str) -> float:
    """Resident memory of this process (MB): ``VmRSS`` now, ``VmHWM`` at most (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    print(f"{machine()}; {threads} threads\n| work | wall (s) | CPU (s) |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        store = label_map(Path(folder))
        before_mb = memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak so far
        areas = dict.fromkeys((info.name for info in store.layout.classes), 1.0)
        for name, work in (
            ("labels at points", lambda: sample_labels(store, threads)),
            ("all measures", lambda: measure_space(store, areas, np.ones(5), threads)),
        ):
            wall, cpu = timed(work)
            print(f"| {name} | {wall:.1f} | {cpu:.1f} |")
    print(f"memory: {memory_mb('VmHWM') - before_mb:.0f} MB more than before")


if __name__ == "__main__":
    main()
