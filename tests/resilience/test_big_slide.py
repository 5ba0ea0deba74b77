"""Memory of workers on a slide of 100,000 x 80,000 px with 22 classes."""

import time
from pathlib import Path

import psutil
import pytest
from run_programs import Program, outcomes

from benchmarks.common import trivial_model
from benchmarks.make_slide import SlideMaker

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

BUDGET_MIB = 1100


def test_workers_stay_within_max_memory(tmp_path: Path) -> None:
    SlideMaker(100_000, 80_000, 0.05, 0.25, seed=1).write(tmp_path / "big.tif")
    model, out = trivial_model(tmp_path / "model", 22), tmp_path / "out"
    options = ("--out", out, "--model", model, "--device", "cpu", "--workers", 2)
    options += ("--max-memory", f"{BUDGET_MIB}M")
    (tmp_path / "temporary").mkdir()
    program = Program(
        "noctile", "run", tmp_path / "big.tif", *options, temporary=tmp_path / "temporary"
    )
    peak, begun = 0, time.monotonic()
    while not program.ended:
        for worker in program.children("worker"):
            try:
                peak = max(peak, worker.memory_info().rss)
            except psutil.Error:
                continue
        time.sleep(0.05)
    code, output = program.wait()
    print(f"largest worker {peak / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s")  # noqa: T201 - for benchmarks/history/resilience.md
    assert code == 0, output
    assert outcomes(out) == {"big": ("done", "")}
    assert 300e6 < peak < BUDGET_MIB * 2**20  # libraries alone need 300 MB: a worker was seen
    (tmp_path / "big.tif").unlink()  # 275 MB
