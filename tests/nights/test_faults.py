"""Kill it, fill its disk, start it twice: the same command always ends with the same bytes."""

import atexit
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from nightmare import Program, contents, ledger, outcomes, plant
from standins import threshold_model

pytestmark = pytest.mark.timeout(900)

SETTINGS = """
engine = "dask"
workers = 2
block_px = 480
device = "cpu"
min_free_disk_bytes = 0
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Five slides of some blocks each, a model, settings, and what an undisturbed run makes of them."""
    world = tmp_path_factory.mktemp("world")
    (world / "slides").mkdir()
    plant(world / "slides", {"healthy": 4, "blank": 1})
    threshold_model(world / "model")
    (world / "run.toml").write_text(SETTINGS)
    code, said = start(world, world / "undisturbed").wait()
    assert code == 0, said
    return world


@pytest.fixture(scope="module")
def undisturbed(world) -> dict[str, bytes]:
    return contents(world / "undisturbed")


def start(world: Path, out: Path, *more: object) -> Program:
    manifest, model, config = world / "slides" / "manifest.csv", world / "model", world / "run.toml"
    words = ("run", "--manifest", manifest, "--out", out, "--model", model, "--config", config, *more)
    return Program("cli", *words, temporary=TEMPORARY)


TEMPORARY = Path(tempfile.mkdtemp(prefix="night-"))  # short, for sockets have short names
atexit.register(shutil.rmtree, TEMPORARY, ignore_errors=True)


def left_in_temporary() -> list[str]:
    return [p.name for p in TEMPORARY.iterdir()]


def wait_for(what, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def events(out: Path, kind: str) -> int:
    return sum(line["event"] == kind for line in ledger(out)) if (out / "ledger.jsonl").exists() else 0


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


def killed_and_resumed(world: Path, out: Path, kills: list[str], seed: int) -> int:
    """Kill one process after another at random moments of their work, each in a run that continues the last.

    Returns how many could be killed before their run had ended.
    """
    rng, killed = random.Random(seed), 0
    for role in kills:
        program = start(world, out)
        wanted = events(out, "segment") + rng.randrange(4)
        wait_for(lambda p=program, n=wanted: p.process.poll() is not None or events(out, "segment") >= n)
        wait_for(lambda p=program: p.process.poll() is not None or p.children("worker"))
        time.sleep(rng.uniform(0.0, 0.5))
        killed += program.kill(role, rng)
        code, said = program.wait()
        assert code == 0 or (role, code) == ("client", -signal.SIGKILL), said
        assert program.left_over() == []
    code, said = start(world, out).wait()
    assert code == 0, said
    return killed


def check_nothing_was_redone(out: Path) -> None:
    """A block that the ledger has is never done again."""
    blocks = [(line["slide_id"], *line["block"]) for line in ledger(out) if line["event"] == "segment"]
    assert len(blocks) == len(set(blocks))


def test_kill_9_of_client_and_worker_changes_no_byte(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    assert killed_and_resumed(world, out, ["client", "worker", "client", "forkserver", "client"], seed=5) >= 3
    same(contents(out), undisturbed)
    check_nothing_was_redone(out)
    assert left_in_temporary() == []  # what the killed left, the last one removed
    assert sorted(p.name for p in out.iterdir()) == [
        "ledger.jsonl",
        "run.json",
        "slides",
        "slides.csv",
        "slides.parquet",
    ]


@pytest.mark.long
def test_kill_9_at_25_moments_changes_no_byte(world, undisturbed, tmp_path):
    roles = random.Random(1).choices(["client", "worker", "forkserver"], [3, 2, 1], k=25)
    for part in range(5):  # five nights with five kills each, or the first ones do it all
        out = tmp_path / f"out{part}"
        killed_and_resumed(world, out, roles[5 * part : 5 * part + 5], seed=part)
        same(contents(out), undisturbed)
        check_nothing_was_redone(out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_run_with_tables_and_exit_code_3(world, undisturbed, tmp_path, number):
    out = tmp_path / "out"
    program = start(world, out)
    wait_for(lambda: events(out, "segment") >= 1)
    os.killpg(program.process.pid, number)  # to every process, as a terminal and Slurm do
    code, said = program.wait()
    assert code == 3, said
    assert "Traceback" not in said
    done = sum(status == "done" for status, _ in outcomes(out).values())
    assert f"{done} of 5 slides done, {5 - done} left; the same command continues" in said.splitlines()[-1]
    assert {reason for status, reason in outcomes(out).values() if status == "skipped"} <= {"stopped"}
    assert program.left_over() == []
    assert left_in_temporary() == []
    assert not (out / "lease.json").exists()
    code, said = start(world, out).wait()
    assert code == 0, said
    same(contents(out), undisturbed)
    check_nothing_was_redone(out)


def test_a_time_that_is_over_stops_the_run_before_it_begins(world, tmp_path):
    out = tmp_path / "out"
    code, said = start(world, out, "--until", "2026-01-01T07:00").wait()
    assert code == 3
    assert "it is 07:00 (--until): 0 of 5 slides done, 5 left" in said.splitlines()[-1]


def test_a_stopped_run_does_not_forget_what_was_done_before(world, tmp_path):
    shutil.copytree(world / "undisturbed", tmp_path / "out")
    code, said = start(world, tmp_path / "out", "--until", "2026-01-01T07:00").wait()
    assert code == 3
    assert "5 of 5 slides done, 0 left" in said.splitlines()[-1]
    assert {status for status, _ in outcomes(tmp_path / "out").values()} == {"done"}


def test_low_disk_stops_the_run(world, tmp_path):
    code, said = start(world, tmp_path / "out", "--min-free-disk", "900T").wait()
    assert code == 3
    assert "disk low" in said.splitlines()[-1]


def test_the_second_of_two_runs_is_refused_and_the_first_goes_on(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    first = start(world, out)
    wait_for((out / "lease.json").exists)
    code, said = start(world, out).wait()
    assert code == 2
    assert f"another run is writing to {out}: process {first.process.pid} on" in said
    code, said = first.wait()
    assert code == 0, said
    same(contents(out), undisturbed)


def test_a_folder_that_vanishes_stops_the_run_and_is_not_made_again(world, tmp_path):
    out = tmp_path / "out"
    program = start(world, out)
    wait_for(lambda: events(out, "segment") >= 1)
    out.rename(tmp_path / "moved")
    code, said = program.wait()
    assert code == 3, said
    assert "has gone" in said.splitlines()[-1] or "cannot be" in said.splitlines()[-1]
    assert not (out / "slides.parquet").exists()
    assert "failed" not in {line["event"] for line in ledger(tmp_path / "moved")}


def mounted(folder: Path, size: str) -> bool:
    """A disk of its own of that size, where this process may mount one."""
    folder.mkdir()
    return os.geteuid() == 0 and os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null") == 0


@pytest.fixture
def small_disk(tmp_path, world):
    """A disk that holds half of the results."""
    half = sum(p.stat().st_size for p in (world / "undisturbed").rglob("*") if p.is_file()) // 2
    folder = tmp_path / "disk"
    if not mounted(folder, str(half)):
        pytest.skip("no disk can be mounted here: needs root")
    yield folder
    os.system(f"umount {folder}")


def test_a_full_disk_stops_the_run_and_harms_no_slide(world, undisturbed, small_disk, tmp_path):
    out = small_disk / "out"
    code, said = start(world, out).wait()
    assert code == 3, said
    assert "No space left" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert "failed" not in {line["event"] for line in ledger(out)}
    os.system(f"mount -o remount,size=100m {small_disk}")
    code, said = start(world, out).wait()
    assert code == 0, said
    same(contents(out), undisturbed)


def test_a_disk_that_turns_read_only_stops_the_run(world, undisturbed, small_disk, tmp_path):
    os.system(f"mount -o remount,size=100m {small_disk}")
    out = small_disk / "out"
    program = start(world, out)
    wait_for(lambda: events(out, "segment") >= 1)
    while os.system(f"mount -o remount,ro {small_disk} 2>/dev/null") != 0:  # busy while a file is being written
        time.sleep(0.01)
    code, said = program.wait()
    assert code == 3, said
    assert "Read-only file system" in said.splitlines()[-1]
    os.system(f"mount -o remount,rw {small_disk}")
    code, said = start(world, out).wait()
    assert code == 0, said
    same(contents(out), undisturbed)


class TestRetry:
    def test_a_slide_that_failed_stays_so_until_it_is_asked_for_or_changes(self, world, tmp_path):
        broken = {p.name: p.read_bytes() for p in (world / "slides").glob("healthy-0*")}
        (tmp_path / "slides").mkdir()
        shutil.copytree(world / "slides", tmp_path / "slides", dirs_exist_ok=True)
        shutil.copytree(world / "model", tmp_path / "model")
        shutil.copy(world / "run.toml", tmp_path / "run.toml")
        manifest = tmp_path / "slides" / "manifest.csv"
        manifest.write_text(manifest.read_text().replace(str(world), str(tmp_path)))
        slide = tmp_path / "slides" / "healthy-0.tif"
        slide.write_bytes(b"no slide at all")
        out = tmp_path / "out"

        def attempts() -> int:
            return events(out, "failed")

        assert start(tmp_path, out).wait()[0] == 1
        assert outcomes(out)["healthy-0"] == ("failed", "unopenable")
        failure = (out / "failures" / "healthy-0.txt").read_text()
        assert "reason: unopenable" in failure
        assert "Traceback" in failure
        code, said = start(tmp_path, out).wait()
        assert (code, attempts()) == (1, 1)
        assert outcomes(out)["healthy-0"] == ("failed", "unopenable")
        assert "--retry-failed" in said
        assert start(tmp_path, out, "--retry-failed").wait()[0] == 1
        assert attempts() == 2
        slide.write_bytes(broken["healthy-0.tif"])
        assert start(tmp_path, out).wait()[0] == 0
        assert outcomes(out)["healthy-0"] == ("done", "")
        assert not (out / "failures" / "healthy-0.txt").exists()
