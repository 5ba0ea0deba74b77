"""Runs that are killed, run out of disk or start twice: the next run ends with the same bytes."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_programs import (
    Program,
    World,
    contents,
    events,
    is_open,
    ledger,
    mounted,
    outcomes,
    resize,
    same,
    wait_for,
)

from noctile.cli import main
from noctile.pipeline.errors import StoreError
from noctile.workflows.run import loop

pytestmark = pytest.mark.timeout(900)

SETTINGS = """
engine = "dask"
workers = 2
block_px = 480
device = "cpu"
min_free_disk_bytes = 0
"""

WORKERS = 2
RESULTS = [
    "columns.json",
    "index.html",
    "index_files",
    "ledger.jsonl",
    "run.log",
    "runs",
    "slides",
    "slides.csv",
    "slides.parquet",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five slides, four of them of four blocks each."""
    with World.of(tmp_path_factory.mktemp("world"), {"healthy": 4, "blank": 1}, SETTINGS) as world:
        yield world


@pytest.fixture(scope="module")
def undisturbed(world) -> Path:
    """Results of an undisturbed run."""
    out = world.folder / "undisturbed"
    code, output = world.start(out, FAULTY_RUN_RENAME_S=0).wait()
    assert code == 0, output
    return out


def in_this_process(world: World, out: Path, *more: object) -> tuple[int, str]:
    """Run the same command on the serial engine, in this process."""
    result = CliRunner().invoke(main, world.words(out, "--engine", "serial", *more))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def killed(world: World, out: Path, moments: list[tuple[float, str]], seed: int, log: Path) -> int:
    """Start a run, and kill -9 its processes at moments (s) after it has workers.

    Returns the number of processes that were killed before it ended.
    """
    program, kills = world.start(out, FAULTY_RUN_LOG=log), 0
    wait_for(
        lambda: (
            program.ended or events(out, "prepare") or len(program.children("worker")) == WORKERS
        )
    )
    for delay_s, role in moments:
        time.sleep(delay_s)
        kills += program.kill(role, random.Random(seed))
    code, output = program.wait()
    assert code in (0, -signal.SIGKILL), output
    assert program.left_over() == []
    return kills


def redone(out: Path, log: Path) -> int:
    """Return the number of blocks that were begun twice; none of them is in the ledger."""
    written = Counter(
        (line["slide_id"], *line["block"]) for line in ledger(out) if line["event"] == "segment"
    )
    assert set(written.values()) == {1}
    begun = Counter(log.read_text().split())
    assert len(begun) == len(written)
    return begun.total() - len(begun)


def test_kill_9_of_client_and_workers_changes_no_byte(world, undisturbed, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    kills = killed(world, out, [(0.0, "worker"), (1.5, "client")], 1, log)
    kills += killed(world, out, [(0.4, "forkserver"), (0.6, "client")], 2, log)
    code, output = world.start(out, FAULTY_RUN_LOG=log).wait()
    assert code == 0, output
    same(contents(out), contents(undisturbed))
    assert kills >= 3
    assert redone(out, log) <= WORKERS * kills
    assert world.left_in_temporary() == []  # the last run removed the files of killed ones
    assert sorted(path.name for path in out.iterdir()) == RESULTS


@pytest.mark.long
def test_kill_9_at_25_moments_changes_no_byte(world, undisturbed, tmp_path):
    """Each run is killed once, at a random moment; after each kill the same command ends it."""
    rng, kills, again = random.Random(0), 0, Counter()
    longest_s = 4.0
    while kills < 25:
        out, log = tmp_path / f"out{kills}", tmp_path / f"log{kills}"
        role = rng.choices(["client", "worker", "forkserver"], [3, 2, 1])[0]
        moment_s = rng.uniform(0, longest_s)
        if not killed(world, out, [(moment_s, role)], kills, log):  # it had ended before
            longest_s = moment_s
            shutil.rmtree(out)
            continue
        kills += 1
        code, output = world.start(out, FAULTY_RUN_LOG=log).wait()
        assert code == 0, output
        same(contents(out), contents(undisturbed))
        assert redone(out, log) <= WORKERS
        again[role, redone(out, log)] += 1
        assert sorted(path.name for path in out.iterdir()) == RESULTS
        shutil.rmtree(out)
    print(f"25 kills; (process, blocks redone): {dict(again)}")  # noqa: T201 - for benchmarks/history/resilience.md
    assert world.left_in_temporary() == []


def test_signals_stop_the_run_with_tables_and_exit_code_3(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    handled = [
        n
        for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(n) is not signal.SIG_IGN
    ]
    for number in handled:  # nohup ignores a hang-up
        before, program = events(out, "segment"), world.start(out)
        wait_for(lambda n=before: events(out, "segment") > n)
        os.killpg(program.process.pid, number)  # to every process, as a terminal and Slurm do
        code, output = program.wait()
        assert code == 3, output
        assert "Traceback" not in output
        done = sum(status == "done" for status, _ in outcomes(out).values())
        assert f"{done} of 5 slides done, {5 - done} left; the same command continues" in output
        assert {reason for status, reason in outcomes(out).values() if status == "skipped"} == {
            "stopped"
        }
        assert program.left_over() == []
        assert world.left_in_temporary() == []
        assert not (out / "lease.json").exists()
    code, output = world.start(out).wait()
    assert code == 0, output
    same(contents(out), contents(undisturbed))
    assert (
        max(
            Counter(
                (e["slide_id"], *e["block"]) for e in ledger(out) if e["event"] == "segment"
            ).values()
        )
        == 1
    )


def test_a_run_that_is_interrupted_while_it_stops_ends_at_once(world, undisturbed, tmp_path):
    """One of the moments is when Dask starts its workers, which could wait for each other."""
    out = tmp_path / "out"
    for after_s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.2):
        program = Program("noctile", *world.words(out), temporary=world.temporary)
        wait_for((out / "lease.json").exists)
        time.sleep(after_s)
        os.killpg(program.process.pid, signal.SIGINT)
        time.sleep(0.1)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(program.process.pid, signal.SIGINT)
        code, output = program.wait(timeout_s=20)
        assert code in (130, -signal.SIGINT, 3, 0), output
        assert "Traceback" not in output
        assert program.left_over() == []
        assert code != 130 or output.splitlines()[-1] == "noctile: interrupted"
        assert code != 130 or world.left_in_temporary() == []
    code, output = world.start(out).wait()
    assert code == 0, output
    same(contents(out), contents(undisturbed))


def test_a_time_in_the_past_stops_the_run_before_it_begins(world, tmp_path):
    code, output = in_this_process(world, tmp_path / "out", "--until", "2026-01-01T07:00")
    assert code == 3
    assert "it is 07:00 (--until): 0 of 5 slides done, 5 left" in output


def test_a_stopped_run_keeps_what_was_done_before(world, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "out")
    code, output = in_this_process(world, tmp_path / "out", "--until", "2026-01-01T07:00")
    assert code == 3
    assert "5 of 5 slides done, 0 left" in output
    assert {status for status, _ in outcomes(tmp_path / "out").values()} == {"done"}


def test_low_disk_stops_the_run(world, tmp_path):
    code, output = in_this_process(world, tmp_path / "out", "--min-free-disk", "900T")
    assert code == 3
    assert "disk low" in output


def test_the_second_of_two_runs_is_refused_and_the_first_continues(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    first = world.start(out)
    wait_for((out / "lease.json").exists)
    code, output = in_this_process(world, out)
    assert code == 2
    assert f"another run is writing to {out}: process {first.process.pid} on" in output
    code, output = first.wait()
    assert code == 0, output
    same(contents(out), contents(undisturbed))


def test_a_run_listens_on_this_machine_alone_and_a_killed_one_leaves_no_process_and_no_port(
    world, tmp_path
):
    """One of the processes hangs in C code and holds the interpreter's lock."""
    manifest, log = tmp_path / "manifest.csv", tmp_path / "log"
    manifest.write_text(f"slide_id,path\ndeaf-0,{world.manifest.with_name('healthy-0.tif')}\n")
    program = world.start(tmp_path / "out", "--manifest", manifest, FAULTY_RUN_LOG=log)
    wait_for(lambda: log.exists() and len(log.read_text().split()) == WORKERS)
    addresses = program.listening()
    assert len(addresses) == 1 + 2 * WORKERS  # scheduler; a nanny and a worker each
    assert {address for address, _ in addresses} == {"127.0.0.1"}
    program.kill("client", random.Random(0))
    assert program.wait()[0] == -signal.SIGKILL
    assert program.left_over() == []
    assert not any(is_open(port) for _, port in addresses)


def test_a_slide_that_hangs_when_it_is_opened_fails_and_the_others_are_done(
    world, undisturbed, tmp_path
):
    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    slide = world.manifest.with_name("healthy-0.tif")
    shutil.copy(slide, tmp_path / "stuck.tif")
    manifest.write_text(f"{world.manifest.read_text()}stuck-0,{tmp_path / 'stuck.tif'}\n")
    code, output = world.start(
        out, "--manifest", manifest, "--slide-timeout", "30s", FAULTY_RUN_RENAME_S=0
    ).wait()
    assert code == 1, output
    assert outcomes(out) == outcomes(undisturbed) | {"stuck-0": ("failed", "timeout")}
    ended = [
        (line["event"], line["slide_id"])
        for line in ledger(out)
        if line["event"] in ("finish", "failed")
    ]
    assert ended[-1] == ("failed", "stuck-0")
    assert "--slide-timeout" in (out / "failures" / "stuck-0.txt").read_text()


def test_a_folder_that_vanishes_stops_the_run_and_is_not_created_again(world, tmp_path):
    out = tmp_path / "out"
    program = world.start(out)
    wait_for(lambda: events(out, "segment") >= 1)
    out.rename(tmp_path / "moved")
    code, output = program.wait()
    assert code == 3, output
    assert "has gone" in output or "cannot be" in output
    assert not (out / "slides.parquet").exists()
    assert "failed" not in {line["event"] for line in ledger(tmp_path / "moved")}


@pytest.fixture
def small_disk(tmp_path, undisturbed):
    """A disk that holds half of the results."""
    half = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()) // 2
    folder = tmp_path / "disk"
    if not mounted(folder, str(half)):
        pytest.skip("only root can mount a disk")
    yield folder
    os.system(f"umount {folder}")


def test_a_disk_that_is_full_or_read_only_stops_the_run_and_fails_no_slide(
    world, undisturbed, small_disk
):
    out = small_disk / "out"
    code, output = world.start(out, FAULTY_RUN_RENAME_S=0).wait()
    assert code == 3, output
    assert "No space left" in output
    assert "Traceback" not in output

    resize(small_disk, "100m")
    before, program = events(out, "segment"), world.start(out)
    wait_for(lambda: events(out, "segment") > before)
    assert os.system(f"mount --bind {out} {out} && mount -o remount,bind,ro {out}") == 0
    code, output = program.wait()
    os.system(f"umount {out}")
    assert code == 3, output
    assert "Read-only file system" in output

    code, output = world.start(out).wait()
    assert code == 0, output
    assert "failed" not in {line["event"] for line in ledger(out)}
    same(contents(out), contents(undisturbed))


def test_a_failed_slide_is_tried_again_only_on_request_or_after_a_change(world, tmp_path):
    world = World(shutil.copytree(world.folder, tmp_path / "world"), world.temporary)
    slide, out = world.folder / "slides" / "healthy-0.tif", tmp_path / "out"
    world.manifest.write_text(
        f"slide_id,path\nhealthy-0,{slide}\nblank-0,{slide.with_name('blank-0.tif')}\n"
    )
    healthy = slide.read_bytes()
    slide.write_bytes(b"no slide at all")

    def run(*more: object) -> tuple[int, int]:
        """Return the exit code, and the number of failures of the slide."""
        return in_this_process(world, out, *more)[0], events(out, "failed")

    assert run() == (1, 1)
    assert outcomes(out)["healthy-0"] == ("failed", "unopenable")
    failure = (out / "failures" / "healthy-0.txt").read_text()
    assert "reason: unopenable" in failure
    assert "Traceback" in failure
    assert run() == (1, 1)
    assert outcomes(out)["healthy-0"] == ("failed", "unopenable")
    assert "--retry-failed" in in_this_process(world, out)[1]
    assert run("--retry-failed") == (1, 2)
    slide.write_bytes(healthy)
    assert run() == (0, 2)
    assert outcomes(out)["healthy-0"] == ("done", "")
    assert not (out / "failures" / "healthy-0.txt").exists()


def test_a_slide_fails_only_after_its_report_is_written(world, tmp_path, monkeypatch):
    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    (tmp_path / "broken.tif").write_bytes(b"no slide at all")
    manifest.write_text("slide_id,path\nbroken,broken.tif\n")

    def full(*_: object) -> None:
        raise StoreError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_failure_report", full)
        assert in_this_process(world, out, "--manifest", manifest)[0] == 3
    assert outcomes(out)["broken"][0] == "skipped"
    assert in_this_process(world, out, "--manifest", manifest)[0] == 2
    assert outcomes(out)["broken"] == ("failed", "unopenable")
    assert "reason: unopenable" in (out / "failures" / "broken.txt").read_text()
