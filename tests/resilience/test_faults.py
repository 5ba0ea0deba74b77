"""Kill it, fill its disk, start it twice: the same command always ends with the same bytes."""

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
from nightmare import (
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
RESULTS = ["ledger.jsonl", "run.json", "slides", "slides.csv", "slides.parquet"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five slides, four of them of four blocks each."""
    with World.of(tmp_path_factory.mktemp("world"), {"healthy": 4, "blank": 1}, SETTINGS) as world:
        yield world


@pytest.fixture(scope="module")
def undisturbed(world) -> Path:
    """What a run leaves that nobody disturbs."""
    out = world.folder / "undisturbed"
    code, said = world.start(out, NIGHTMARE_RENAME_S=0).wait()
    assert code == 0, said
    return out


def in_this_process(world: World, out: Path, *more: object) -> tuple[int, str]:
    """The same command with the plain loop: where no process matters."""
    result = CliRunner().invoke(main, world.words(out, "--engine", "serial", *more))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def killed(world: World, out: Path, moments: list[tuple[float, str]], seed: int, log: Path) -> int:
    """Start a run, kill -9 its processes so long (s) after it has workers; how many were killed
    before it ended."""
    program, kills = world.start(out, NIGHTMARE_LOG=log), 0
    wait_for(
        lambda: (
            program.ended or events(out, "prepare") or len(program.children("worker")) == WORKERS
        )
    )
    for delay_s, role in moments:
        time.sleep(delay_s)
        kills += program.kill(role, random.Random(seed))
    code, said = program.wait()
    assert code in (0, -signal.SIGKILL), said
    assert program.left_over() == []
    return kills


def redone(out: Path, log: Path) -> int:
    """How often a block was begun that had been begun before; none that the ledger has."""
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
    code, said = world.start(out, NIGHTMARE_LOG=log).wait()
    assert code == 0, said
    same(contents(out), contents(undisturbed))
    assert kills >= 3
    assert redone(out, log) <= WORKERS * kills
    assert world.left_in_temporary() == []  # what the killed left, the last one removed
    assert sorted(path.name for path in out.iterdir()) == RESULTS


@pytest.mark.long
def test_kill_9_at_25_moments_changes_no_byte(world, undisturbed, tmp_path):
    """One kill a night, anywhere from its first moment to its last; after each the same command
    ends it."""
    rng, kills, again = random.Random(0), 0, Counter()
    longest_s = 4.0
    while kills < 25:
        out, log = tmp_path / f"out{kills}", tmp_path / f"log{kills}"
        role = rng.choices(["client", "worker", "forkserver"], [3, 2, 1])[0]
        moment_s = rng.uniform(0, longest_s)
        if not killed(
            world, out, [(moment_s, role)], kills, log
        ):  # it had ended: a moment too late
            longest_s = moment_s
            shutil.rmtree(out)
            continue
        kills += 1
        code, said = world.start(out, NIGHTMARE_LOG=log).wait()
        assert code == 0, said
        same(contents(out), contents(undisturbed))
        assert redone(out, log) <= WORKERS
        again[role, redone(out, log)] += 1
        assert sorted(path.name for path in out.iterdir()) == RESULTS
        shutil.rmtree(out)
    print(f"25 kills; (process, blocks redone): {dict(again)}")  # noqa: T201 - for benchmarks/RESULTS.md
    assert world.left_in_temporary() == []


def test_signals_stop_the_run_with_tables_and_exit_code_3(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    heard = [
        n
        for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(n) is not signal.SIG_IGN
    ]
    for number in heard:  # under nohup a hang-up is ignored
        before, program = events(out, "segment"), world.start(out)
        wait_for(lambda n=before: events(out, "segment") > n)
        os.killpg(program.process.pid, number)  # to every process, as a terminal and Slurm do
        code, said = program.wait()
        assert code == 3, said
        assert "Traceback" not in said
        done = sum(status == "done" for status, _ in outcomes(out).values())
        assert (
            f"{done} of 5 slides done, {5 - done} left; the same command continues"
            in said.splitlines()[-1]
        )
        assert {reason for status, reason in outcomes(out).values() if status == "skipped"} == {
            "stopped"
        }
        assert program.left_over() == []
        assert world.left_in_temporary() == []
        assert not (out / "lease.json").exists()
    code, said = world.start(out).wait()
    assert code == 0, said
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
    """At a moment when Dask starts its workers, among others: they would wait for it, and it for
    them."""
    out = tmp_path / "out"
    for after_s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.2):
        program = Program("noctile", *world.words(out), temporary=world.temporary)
        wait_for((out / "lease.json").exists)
        time.sleep(after_s)
        os.killpg(program.process.pid, signal.SIGINT)
        time.sleep(0.1)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(program.process.pid, signal.SIGINT)
        code, said = program.wait(timeout_s=20)
        assert code in (130, -signal.SIGINT, 3, 0), said
        assert "Traceback" not in said
        assert program.left_over() == []
        assert code != 130 or said.splitlines()[-1] == "noctile: interrupted"
        assert code != 130 or world.left_in_temporary() == []
    code, said = world.start(out).wait()
    assert code == 0, said
    same(contents(out), contents(undisturbed))


def test_a_time_that_is_over_stops_the_run_before_it_begins(world, tmp_path):
    code, said = in_this_process(world, tmp_path / "out", "--until", "2026-01-01T07:00")
    assert code == 3
    assert "it is 07:00 (--until): 0 of 5 slides done, 5 left" in said.splitlines()[-1]


def test_a_stopped_run_does_not_forget_what_was_done_before(world, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "out")
    code, said = in_this_process(world, tmp_path / "out", "--until", "2026-01-01T07:00")
    assert code == 3
    assert "5 of 5 slides done, 0 left" in said.splitlines()[-1]
    assert {status for status, _ in outcomes(tmp_path / "out").values()} == {"done"}


def test_low_disk_stops_the_run(world, tmp_path):
    code, said = in_this_process(world, tmp_path / "out", "--min-free-disk", "900T")
    assert code == 3
    assert "disk low" in said.splitlines()[-1]


def test_the_second_of_two_runs_is_refused_and_the_first_goes_on(world, undisturbed, tmp_path):
    out = tmp_path / "out"
    first = world.start(out)
    wait_for((out / "lease.json").exists)
    code, said = in_this_process(world, out)
    assert code == 2
    assert f"another run is writing to {out}: process {first.process.pid} on" in said
    code, said = first.wait()
    assert code == 0, said
    same(contents(out), contents(undisturbed))


def test_a_run_listens_on_this_machine_only_and_a_killed_one_leaves_no_process_and_no_port(
    world, tmp_path
):
    """Not even one that hangs in C code and holds the interpreter's lock."""
    manifest, log = tmp_path / "manifest.csv", tmp_path / "log"
    manifest.write_text(f"slide_id,path\ndeaf-0,{world.manifest.with_name('healthy-0.tif')}\n")
    program = world.start(tmp_path / "out", "--manifest", manifest, NIGHTMARE_LOG=log)
    wait_for(lambda: log.exists() and len(log.read_text().split()) == WORKERS)
    places = program.listening()
    assert len(places) == 1 + 2 * WORKERS  # scheduler; a nanny and a worker each
    assert {address for address, _ in places} == {"127.0.0.1"}
    program.kill("client", random.Random(0))
    assert program.wait()[0] == -signal.SIGKILL
    assert program.left_over() == []
    assert not any(is_open(port) for _, port in places)


def test_a_slide_that_hangs_when_it_is_opened_fails_alone_while_the_others_are_done(
    world, undisturbed, tmp_path
):
    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    slide = world.manifest.with_name("healthy-0.tif")
    shutil.copy(slide, tmp_path / "stuck.tif")
    manifest.write_text(f"{world.manifest.read_text()}stuck-0,{tmp_path / 'stuck.tif'}\n")
    code, said = world.start(
        out, "--manifest", manifest, "--slide-timeout", "30s", NIGHTMARE_RENAME_S=0
    ).wait()
    assert code == 1, said
    assert outcomes(out) == outcomes(undisturbed) | {"stuck-0": ("failed", "timeout")}
    ended = [
        (line["event"], line["slide_id"])
        for line in ledger(out)
        if line["event"] in ("finish", "failed")
    ]
    assert ended[-1] == ("failed", "stuck-0")
    assert "--slide-timeout" in (out / "failures" / "stuck-0.txt").read_text()


def test_a_folder_that_vanishes_stops_the_run_and_is_not_made_again(world, tmp_path):
    out = tmp_path / "out"
    program = world.start(out)
    wait_for(lambda: events(out, "segment") >= 1)
    out.rename(tmp_path / "moved")
    code, said = program.wait()
    assert code == 3, said
    assert "has gone" in said.splitlines()[-1] or "cannot be" in said.splitlines()[-1]
    assert not (out / "slides.parquet").exists()
    assert "failed" not in {line["event"] for line in ledger(tmp_path / "moved")}


@pytest.fixture
def small_disk(tmp_path, undisturbed):
    """A disk that holds half of the results."""
    half = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()) // 2
    folder = tmp_path / "disk"
    if not mounted(folder, str(half)):
        pytest.skip("no disk can be mounted here: needs root")
    yield folder
    os.system(f"umount {folder}")


def test_a_disk_that_is_full_or_turns_read_only_stops_the_run_and_harms_no_slide(
    world, undisturbed, small_disk
):
    out = small_disk / "out"
    code, said = world.start(out, NIGHTMARE_RENAME_S=0).wait()
    assert code == 3, said
    assert "No space left" in said.splitlines()[-1]
    assert "Traceback" not in said

    resize(small_disk, "100m")
    before, program = events(out, "segment"), world.start(out)
    wait_for(lambda: events(out, "segment") > before)
    assert os.system(f"mount --bind {out} {out} && mount -o remount,bind,ro {out}") == 0
    code, said = program.wait()
    os.system(f"umount {out}")
    assert code == 3, said
    assert "Read-only file system" in said.splitlines()[-1]

    code, said = world.start(out).wait()
    assert code == 0, said
    assert "failed" not in {line["event"] for line in ledger(out)}
    same(contents(out), contents(undisturbed))


def test_a_slide_that_failed_stays_so_until_it_is_asked_for_or_changes(world, tmp_path):
    world = World(shutil.copytree(world.folder, tmp_path / "world"), world.temporary)
    slide, out = world.folder / "slides" / "healthy-0.tif", tmp_path / "out"
    world.manifest.write_text(
        f"slide_id,path\nhealthy-0,{slide}\nblank-0,{slide.with_name('blank-0.tif')}\n"
    )
    healthy = slide.read_bytes()
    slide.write_bytes(b"no slide at all")

    def run(*more: object) -> tuple[int, int]:
        """Exit code, and how often the slide has failed."""
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


def test_no_slide_has_failed_before_its_report_stands(world, tmp_path, monkeypatch):
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
