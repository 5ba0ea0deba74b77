"""An archive with every kind of fault, in runs that are killed: every slide gets its row."""

import os
import random
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from faulty_slides import EXPECTED
from run_programs import World, contents, ledger, mounted, outcomes, resize, same, wait_for

pytestmark = pytest.mark.timeout(3600)

SETTINGS = """
engine = "dask"
workers = 2
block_px = 480
device = "cpu"
min_free_disk_bytes = 0
max_memory_bytes = "900M"
slide_timeout_s = "12s"
"""
"""Settings of the runs; a healthy slide takes 2 s on a busy machine."""

SMALL = dict.fromkeys(EXPECTED, 1) | {"healthy": 10, "flipped": 3, "blank": 2}
LARGE = dict.fromkeys(EXPECTED, 8) | {"healthy": 96, "flipped": 16, "truncated": 16}

ENOUGH = "400m"


def rows(out: Path) -> dict[str, dict]:
    """Return the rows of the table by slide, without the column that differs from run to run."""
    return {
        row["slide_id"]: row
        for row in pq.read_table(out / "slides.parquet")
        .drop_columns(["run", "seconds"])
        .to_pylist()
    }


def run_with_kills(
    world: World, out: Path, kills: list[list[str]], within_s: float, seed: int, disk: Path | None
) -> None:
    """Start a run for each list of processes to kill at random moments, then one to the end.

    With a disk, a first run fills it, and the disk is made larger.
    """
    rng = random.Random(seed)
    if disk is not None:
        code, output = world.start(out).wait(600)
        assert code == 3, output
        assert "No space left" in output
        resize(disk, ENOUGH)
    for roles in kills:
        program = world.start(out)
        wait_for(lambda p=program: p.ended or p.children("worker"))
        killed = set()
        for role in roles:
            time.sleep(rng.uniform(0.3, within_s))
            killed |= {role} if program.kill(role, rng) else set()
        code, output = program.wait(1800)
        assert code == (-signal.SIGKILL if "client" in killed else 1), output
        assert program.left_over() == []
    code, output = world.start(out).wait(1800)
    assert code == 1, output


def check(world: World, out: Path, counts: dict[str, int]) -> None:
    """Check that each slide has its row, and readable ones the masks of an undisturbed run."""
    found = outcomes(out)
    assert len(found) == sum(counts.values())
    for slide_id, (status, reason) in found.items():
        wanted, reasons = EXPECTED[slide_id.partition("-")[0]]
        steps = [line for line in ledger(out) if line.get("slide_id") == slide_id]
        assert status == wanted or (not wanted and status in ("done", "failed")), (
            status,
            reason,
            steps,
        )
        assert reason in reasons, (reason, steps)
        folders = out / "slides" / slide_id / "failure.txt", out / "failures" / f"{slide_id}.txt"
        assert any(path.exists() for path in folders) == (status == "failed")
    assert world.left_in_temporary() == []

    undisturbed, manifest = world.folder / "undisturbed", world.folder / "readable.csv"
    lines = [line for line in world.manifest.read_text().splitlines() if kind(line) in READABLE]
    manifest.write_text("\n".join(["slide_id,path", *lines]) + "\n")
    code, output = world.start(undisturbed, "--manifest", manifest, FAULTY_RUN_RENAME_S=0).wait(
        1800
    )
    assert code in (0, 1), output
    same(contents(out), contents(undisturbed))
    assert len(lines) == len(rows(undisturbed)) > counts["healthy"]
    disturbed = rows(out)
    assert {slide_id: disturbed[slide_id] for slide_id in rows(undisturbed)} == rows(undisturbed)


READABLE = {name for name, (status, _) in EXPECTED.items() if status != "failed"}


def kind(line: str) -> str:
    return line.partition("-")[0]


@pytest.fixture
def disk(tmp_path):
    """A disk that is too small; None if this process may not mount one."""
    folder = tmp_path / "disk"
    if not mounted(folder, "1500k"):
        yield None
        return
    yield folder
    os.system(f"umount {folder}")


@pytest.mark.parametrize(
    ("counts", "kills", "within_s"),
    [
        pytest.param(SMALL, [["worker", "client"]], 4.0, id="24 slides"),
        pytest.param(
            LARGE,
            [
                ["worker", "client"],
                ["client"],
                ["worker", "worker", "client"],
                ["forkserver", "client"],
            ]
            * 3,
            12.0,
            id="200 slides",
            marks=pytest.mark.long,
        ),
    ],
)
def test_every_slide_has_its_row_and_the_masks_of_an_undisturbed_run(
    tmp_path, disk, counts, kills, within_s
):
    with World.of(tmp_path, counts, SETTINGS) as world:
        out = (disk or tmp_path) / "out"
        run_with_kills(world, out, kills, within_s, 0, disk)
        check(world, out, counts)
    if disk is None:
        pytest.skip("passed without the full disk, which only root can mount")
