"""Cost of a run on thousands of slides without pixels, on a real scheduler."""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from run_programs import Program, World, events, is_open, outcomes

pytestmark = pytest.mark.timeout(3600)

SETTINGS = """
engine = "dask"
workers = 2
device = "cpu"
min_free_disk_bytes = 0
"""

WARM = 30
"""Number of slides after which everything is imported and every buffer exists."""


@dataclass(frozen=True)
class Sample:
    """Resources of a run at one moment.

    Attributes:
        planned: number of slides that were planned.
        client_bytes: memory of the process with client, scheduler and nannies (B).
        worker_bytes: memory of the largest worker (B).
        handles: number of open files and sockets of all processes.
    """

    planned: int
    client_bytes: int
    worker_bytes: int
    handles: int


def watch(program: Program, out: Path) -> tuple[list[Sample], set[int]]:
    """Sample a run four times a second until it ends; return the samples and its ports."""
    samples, ports, planned = [], set(), 0
    while not (out / "ledger.jsonl").exists():
        time.sleep(0.05)
    with (out / "ledger.jsonl").open("rb") as ledger:
        while not program.ended:
            planned += ledger.read().count(b'"event": "look"')
            client = sum(memory(p) for p in program.processes() if p.pid == program.process.pid)
            worker = max((memory(p) for p in program.children("worker")), default=0)
            handles = sum(handles_of(p) for p in program.processes())
            samples.append(Sample(planned, client, worker, handles))
            ports |= {port for _, port in program.listening()}
            time.sleep(0.25)
    return samples, ports


def memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def handles_of(process: psutil.Process) -> int:
    try:
        return process.num_fds()
    except psutil.Error:
        return 0


def growth(out: Path) -> list[tuple[float, int]]:
    """Return the time (s) and the size of the ledger (B) when each slide was done."""
    steps, size = [], 0
    for line in (out / "ledger.jsonl").read_bytes().splitlines(keepends=True):
        size += len(line)
        if b'"event": "finish"' in line:
            steps.append((datetime.fromisoformat(json.loads(line)["time"]).timestamp(), size))
    return steps


def memory_figures(samples: list[Sample]) -> dict[str, Any]:
    """Return memory (MB) and handles of a run, and their growth once everything is imported."""
    warm = next(sample for sample in samples if sample.planned >= WARM)
    client = [sample.client_bytes / 1e6 for sample in samples]
    worker = [sample.worker_bytes / 1e6 for sample in samples]
    return {
        "client_growth_mb": max(client) - warm.client_bytes / 1e6,
        "worker_growth_mb": max(worker) - warm.worker_bytes / 1e6,
        "client_mb": warm.client_bytes / 1e6,
        "worker_mb": warm.worker_bytes / 1e6,
        "client_mb_over_time": [round(mb) for mb in client[:: max(1, len(client) // 20)]],
        "handles": (warm.handles, max(sample.handles for sample in samples)),
    }


def slide_figures(out: Path, slides: int) -> dict[str, Any]:
    """Return time and ledger bytes of a slide, in the first and in the last fifth of a run."""
    part, steps = slides // 5, growth(out)
    early, late = part - WARM, part - 1
    (begun_s, begun_bytes), (early_s, early_bytes) = steps[WARM], steps[part]
    (late_s, late_bytes), (last_s, last_bytes) = steps[slides - part], steps[-1]
    return {
        "slides": slides,
        "seconds": round(last_s - steps[0][0]),
        "ms_a_slide": [1e3 * (early_s - begun_s) / early, 1e3 * (last_s - late_s) / late],
        "ledger_bytes_a_slide": [
            (early_bytes - begun_bytes) / early,
            (last_bytes - late_bytes) / late,
        ],
    }


@pytest.mark.parametrize("slides", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_memory_time_and_ledger_of_a_slide_do_not_grow_with_the_archive(tmp_path, slides):
    with World.of(tmp_path, {}, SETTINGS) as world:
        out = tmp_path / "out"
        names = [f"s{n:04}" for n in range(slides)]
        for name in names:
            (tmp_path / "slides" / f"{name}.tif").touch()
        lines = [f"{name},{tmp_path / 'slides' / name}.tif" for name in names]
        world.manifest.write_text("\n".join(["slide_id,path", *lines]) + "\n")
        program = world.start(out, FAULTY_RUN_SIMULATED=1, FAULTY_RUN_RENAME_S=0)
        samples, ports = watch(program, out)
        code, output = program.wait()
        assert code == 0, output
        assert set(outcomes(out).values()) == {("done", "")}
        assert events(out, "finish") == slides
        assert program.left_over() == []
        assert world.left_in_temporary() == []
        assert ports
        assert not any(map(is_open, ports))

    figures = slide_figures(out, slides) | memory_figures(samples)
    print(figures)  # noqa: T201 - for benchmarks/history/resilience.md
    assert figures["client_growth_mb"] < 200
    assert figures["worker_growth_mb"] < 50
    warm_handles, most_handles = figures["handles"]
    assert most_handles <= warm_handles + 20
    early_bytes, late_bytes = figures["ledger_bytes_a_slide"]
    assert late_bytes == pytest.approx(early_bytes, rel=0.1)
    early_ms, late_ms = figures["ms_a_slide"]
    assert late_ms < 2 * early_ms
