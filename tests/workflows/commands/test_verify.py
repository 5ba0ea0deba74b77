"""`noctile verify` on intact and damaged results of a real run."""

import json
from contextlib import closing

import pytest
from click.testing import CliRunner
from damaged_results import check, first_shard, flip_a_bit, found

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.workflows.results.lease import Lease


def test_intact_results_have_no_fault_and_every_slide_is_checked(damaged):
    result = check(damaged)
    assert (result.exit_code, result.tables) == (0, ())
    assert [(v.slide_id, v.faults) for v in result.slides] == [
        (name, ()) for name in ("a", "b", "glass")
    ]


def test_nothing_is_written(damaged):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in damaged.rglob("*")}
    check(damaged)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in damaged.rglob("*")} == before


def test_every_file_of_a_slide_but_the_checksums_has_a_checksum(damaged):
    folder = damaged / "slides" / "a"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(json.loads((folder / "checksums.json").read_text())["files"]) == there - {
        "checksums.json"
    }


def test_files_of_the_user_beside_a_slide_are_ignored(damaged):
    (damaged / "slides" / "a" / "my notes.txt").write_text("look at this one")
    assert found(damaged) == []


def test_several_processes_find_the_same_faults(damaged):
    flip_a_bit(damaged / first_shard(damaged))
    assert check(damaged, workers=2) == check(damaged)


def test_only_named_slides_are_checked(damaged):
    flip_a_bit(damaged / first_shard(damaged))
    assert check(damaged, "b").exit_code == 0
    assert check(damaged, "a").exit_code == 1


def test_a_slide_that_is_not_done_is_refused(damaged):
    with pytest.raises(UsageError, match="broken"):
        check(damaged, "broken")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        check(tmp_path)


def verify(*words: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(main, ["verify", *map(str, words), "--workers", "1"])
    return done.exit_code, done.output.splitlines()


def test_intact_results_are_exit_0_and_one_line(damaged):
    assert verify(damaged) == (0, ["3 slides read again: 0 wrong"])


def test_faults_are_exit_1_and_one_line_for_each_slide(damaged):
    shard = first_shard(damaged)
    flip_a_bit(damaged / shard)
    (damaged / "slides" / "b" / "preview.jpg").unlink()
    code, lines = verify(damaged)
    assert code == 1
    assert lines == [
        f"a: {shard} is not what was written: its checksum differs; "
        "delete slides/a and run the same command again",
        "b: slides/b/preview.jpg is missing; delete slides/b/summary.json and run the same "
        "command again, which measures the slide anew",
        "3 slides read again: 2 wrong",
    ]


def test_slides_can_be_named(damaged):
    flip_a_bit(damaged / first_shard(damaged))
    assert verify(damaged, "--slides", "b", "--slides", "glass") == (
        0,
        ["2 slides read again: 0 wrong"],
    )


def test_a_run_at_work_is_mentioned(damaged):
    with closing(Lease(damaged, lambda reason: None)):
        assert verify(damaged)[1][0].startswith("noctile: warning: a run is at work (process ")
