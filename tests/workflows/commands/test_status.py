"""`noctile status` on ledgers written by hand, and on a real run."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from label_results import write_result
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.status import AuditStatus, Status, read_status
from noctile.workflows.engines.base import Failure
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


def never(reason: str) -> None:
    raise AssertionError(reason)


def counts(status: Status) -> tuple[int, int, int, int, int]:
    assert status.submitted == status.done + len(status.failed) + len(status.begun) + status.waiting
    return status.submitted, status.done, len(status.failed), len(status.begun), status.waiting


def plan_of(out: Path, slide_id: str, tiles: list[int]) -> None:
    """Write a plan with a row of blocks, with the given numbers of tiles."""
    folder = out / "slides" / slide_id
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [{"row": 0, "col": col, "tiles": [[0, 0, n]]} for col, n in enumerate(tiles)]
    (folder / "plan.json").write_text(json.dumps({"plan": {"blocks": blocks}}))


@pytest.fixture
def ledger(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        yield ledger


class TestCounts:
    def test_every_submitted_slide_is_counted_once(self, ledger, tmp_path):
        ledger.started("run", ["a", "b", "c", "d", "e"], "k")
        for slide_id in "abc":
            ledger.planned(slide_id, slide_id, 1, fresh=True)
        ledger.segmented("a", "a", 1, (0, 0))
        ledger.finished("a", "a", 1)
        ledger.failed(
            "segment", "b", "x", Failure("unreadable", "slide b: no pixels", "Traceback ..."), 1
        )
        plan_of(tmp_path, "c", [4, 4])
        ledger.segmented("c", "c", 1, (0, 1))
        status = read_status(tmp_path)
        assert counts(status) == (5, 1, 1, 1, 2)
        (begun,) = status.begun
        assert (begun.slide_id, begun.blocks_done, begun.blocks) == ("c", 1, 2)
        assert (status.run, status.tiles_per_s, status.end) == (None, None, None)

    def test_a_slide_of_the_preflight_waits(self, ledger, tmp_path):
        ledger.started("run", ["a", "b"], "k")
        plan_of(tmp_path, "a", [1, 1])
        ledger.planned("a", "1", 1, fresh=True, early=True)
        assert counts(read_status(tmp_path)) == (2, 0, 0, 0, 2)
        ledger.planned("a", "1", 1, fresh=False)
        assert counts(read_status(tmp_path)) == (2, 0, 0, 1, 1)

    def test_a_slide_that_was_planned_anew_has_no_block(self, ledger, tmp_path):
        ledger.started("run", ["a"], "k")
        plan_of(tmp_path, "a", [1, 1])
        ledger.planned("a", "1", 1, fresh=True)
        ledger.segmented("a", "1", 1, (0, 0))
        ledger.planned("a", "2", 1, fresh=True)
        assert read_status(tmp_path).begun[0].blocks_done == 0

    def test_a_slide_that_failed_and_was_done_later_is_done(self, ledger, tmp_path):
        ledger.started("run", ["a"], "k")
        ledger.failed("prepare", "a", "x", Failure("mpp_missing", "none"), 1)
        assert counts(read_status(tmp_path)) == (1, 0, 1, 0, 0)
        ledger.planned("a", "1", 1, fresh=True)
        ledger.finished("a", "1", 1)
        assert counts(read_status(tmp_path)) == (1, 1, 0, 0, 0)

    def test_a_slide_that_was_done_with_another_model_is_not_done(self, ledger, tmp_path):
        for key in ("one", "other"):
            ledger.started("run", ["a", "b"], key)
            if key == "one":
                ledger.finished("a", "1", 1)
        assert counts(read_status(tmp_path)) == (2, 0, 0, 0, 2)
        ledger.started("run", ["a", "b"], "one")
        assert counts(read_status(tmp_path)) == (2, 1, 0, 0, 1)

    def test_slides_of_an_earlier_call_are_not_counted(self, ledger, tmp_path):
        ledger.started("run", ["a"], "k")
        ledger.finished("a", "1", 1)
        ledger.started("run", ["b"], "k")
        assert counts(read_status(tmp_path)) == (1, 0, 0, 0, 1)

    def test_an_incomplete_line_is_ignored(self, ledger, tmp_path):
        ledger.started("run", ["a"], "k")
        ledger.finished("a", "1", 1)
        with (tmp_path / "ledger.jsonl").open("ab") as file:
            file.write(b'{"time": "2026-11-23T09:00:00+00:00", "event": "fini')
        assert counts(read_status(tmp_path)) == (1, 1, 0, 0, 0)

    def test_a_folder_without_a_run_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            read_status(tmp_path)


class TestFailures:
    def test_a_failure_has_its_reason_its_attempts_and_its_report(self, ledger, tmp_path):
        ledger.started("run", ["a", "b", "c"], "k")
        for slide_id in ("a", "b", "b", "c"):
            ledger.failed(
                "prepare", slide_id, "x", Failure("unopenable", f"slide {slide_id}: no"), 1
            )
        (tmp_path / "slides" / "a").mkdir(parents=True)
        (tmp_path / "failures").mkdir()
        (tmp_path / "slides" / "a" / "failure.txt").write_text("Traceback")
        (tmp_path / "failures" / "b.txt").write_text("Traceback")
        a, b, c = read_status(tmp_path).failed
        assert (a.slide_id, a.reason, a.message, a.attempts) == (
            "a",
            "unopenable",
            "slide a: no",
            1,
        )
        assert (b.slide_id, b.attempts) == ("b", 2)
        assert (a.report, b.report, c.report) == (
            "slides/a/failure.txt",
            "failures/b.txt",
            "ledger.jsonl",
        )


class TestSpeed:
    def begin(self, ledger: Ledger, tmp_path: Path, ago_s: float) -> None:
        """Record a run of three slides with 100 tiles each: one done, one half done."""
        ledger.started("run", ["a", "b", "c"], "k")
        for slide_id in "abc":
            plan_of(tmp_path, slide_id, [50, 50])
        ledger.planned("b", "b", 1, fresh=True)
        for block in ((0, 0), (0, 1)):
            ledger.segmented("a", "a", 1, block)
        ledger.finished("a", "a", 1)
        ledger.segmented("b", "b", 1, (0, 0))
        lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
        start = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
        lines[0] = json.dumps(json.loads(lines[0]) | {"time": start})
        (tmp_path / "ledger.jsonl").write_text("\n".join(lines) + "\n")

    def test_the_speed_is_that_of_the_last_minutes(self, ledger, tmp_path):
        self.begin(ledger, tmp_path, 100)
        with closing(Lease(tmp_path, never)):
            status = read_status(tmp_path)
        assert status.run is not None
        assert status.run.alive
        assert status.run.holder.owner.pid == os.getpid()
        assert status.tiles_per_s == pytest.approx(150 / 100, rel=0.05)

    def test_the_end_is_estimated_by_tiles_if_all_slides_are_planned(self, ledger, tmp_path):
        self.begin(ledger, tmp_path, 100)
        (tmp_path / "plan.csv").write_text('"slide_id","predictions"\n"a",100\n"b",100\n"c",100\n')
        with closing(Lease(tmp_path, never)):
            status = read_status(tmp_path)
        assert self.left_s(status) == pytest.approx(150 / 1.5, rel=0.1)

    def test_the_end_is_estimated_by_slides_if_some_are_not_planned(self, ledger, tmp_path):
        self.begin(ledger, tmp_path, 100)
        with closing(Lease(tmp_path, never)):
            status = read_status(tmp_path)
        assert self.left_s(status) == pytest.approx(2 * 100, rel=0.1)

    def test_a_failed_slide_does_not_bring_the_end_closer(self, ledger, tmp_path):
        self.begin(ledger, tmp_path, 100)
        ledger.failed("segment", "b", "b", Failure("unreadable", "no pixels"), 0.1)
        with closing(Lease(tmp_path, never)):
            status = read_status(tmp_path)
        assert self.left_s(status) == pytest.approx(100, rel=0.1)

    def test_a_run_whose_process_has_ended_is_dead_and_has_no_speed(self, ledger, tmp_path):
        self.begin(ledger, tmp_path, 100)
        code = (
            "import os, sys\nfrom pathlib import Path\n"
            "from noctile.workflows.results.lease import Lease\n"
            "Lease(Path(sys.argv[1]), print)\nos._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        status = read_status(tmp_path)
        assert status.run is not None
        assert not status.run.alive
        assert (status.tiles_per_s, status.end) == (None, None)

    @staticmethod
    def left_s(status: Status) -> float:
        assert status.end is not None
        return (status.end - datetime.now(UTC)).total_seconds()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "slides").mkdir()
    for seed, name in enumerate("ab"):
        small_slide(folder / "slides" / f"{name}.tif", seed=seed, height=1300, width=1500)
    (folder / "slides" / "broken.tif").write_bytes(b"II*\0 this is no slide")
    threshold_model(folder / "model")
    return folder


class TestRealRun:
    @staticmethod
    def settings(folder: Path) -> RunSettings:
        return RunSettings(model=str(folder / "model"), engine="serial", block_px=480, device="cpu")

    def test_a_run_at_work_is_alive_and_every_slide_is_counted(self, folder, tmp_path):
        entries = find_slides([folder / "slides"], None, None).slides
        seen: list[Status] = []
        run_slides(
            entries,
            self.settings(folder),
            tmp_path,
            lambda progress, say: seen.append(read_status(tmp_path)),
        )
        assert all(status.run and status.run.alive for status in seen)
        assert {counts(status)[0] for status in seen} == {3}
        assert [status.done for status in seen] == sorted(status.done for status in seen)
        assert any(
            0 < begun.blocks_done < begun.blocks for status in seen for begun in status.begun
        )
        assert any(status.tiles_per_s for status in seen)
        after = read_status(tmp_path)
        assert counts(after) == (3, 2, 1, 0, 0)
        assert after.run is None
        assert after.failed[0].report == "failures/broken.txt"
        assert "Traceback" in (tmp_path / after.failed[0].report).read_text()

    def test_nothing_is_written(self, folder, tmp_path):
        entries = find_slides([folder / "slides"], None, None).slides
        run_slides(entries, self.settings(folder), tmp_path, lambda progress, say: None)
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        read_status(tmp_path)
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


class TestLarge:
    def test_five_thousand_slides_take_seconds(self, tmp_path):
        """A ledger of 100,000 lines: as a run of 5,000 slides with 18 blocks each writes it."""
        ids = [f"slide-{n:04d}" for n in range(5000)]
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [
            {"time": stamp, "event": "start", "command": "run", "slides": ids, "pixels_key": "k"}
        ]
        for slide_id in ids:
            about = {"time": stamp, "slide_id": slide_id, "key": slide_id, "seconds": 1.0}
            lines.append({**about, "event": "prepare", "fresh": True})
            lines.extend({**about, "event": "segment", "block": [0, col]} for col in range(18))
            lines.append({**about, "event": "finish"})
        (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        start = time.process_time()
        assert counts(read_status(tmp_path)) == (5000, 5000, 0, 0, 0)
        assert time.process_time() - start < 5


class TestCommand:
    def test_failures_are_counted_and_named_by_reason(self, ledger, tmp_path):
        ledger.started("run", ["a", "b", "c"], "k")
        for slide_id in "ab":
            ledger.failed(
                "prepare", slide_id, "x", Failure("unopenable", f"slide {slide_id}: no"), 1
            )
        done = CliRunner().invoke(main, ["status", str(tmp_path)])
        assert done.exit_code == 0
        assert "3 slides: 0 done, 2 failed, 0 begun, 1 waiting" in done.output
        assert "unopenable       2  a, b" in done.output

    def test_the_option_failed_prints_one_line_for_each_failure(self, ledger, tmp_path):
        ledger.started("run", ["a", "b"], "k")
        ledger.failed("prepare", "a", "x", Failure("unopenable", "slide a: no"), 1)
        done = CliRunner().invoke(main, ["status", str(tmp_path), "--failed"])
        assert done.exit_code == 0
        assert done.output == f"a: unopenable, 1 x: slide a: no ({tmp_path / 'ledger.jsonl'})\n"

    def test_a_folder_without_a_run_is_exit_2(self, tmp_path):
        done = CliRunner().invoke(main, ["status", str(tmp_path)])
        assert done.exit_code == 2
        assert "holds no run" in done.output


def test_reviews_are_counted_by_their_combined_status(ledger, tmp_path):
    (tmp_path / "review.csv").write_text(
        "slide_id,reviewer,status\na,ada,rejected\nb,ada,accepted\nb,bob,rejected\nc,ada,\n"
    )
    assert read_status(tmp_path).reviews == {"rejected": 1, "disagreement": 1}
    shown = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert "; reviewed: 1 disagreement, 1 rejected" in shown.output
    (tmp_path / "review.csv").write_text("{")
    assert read_status(tmp_path).reviews == {}


class TestAudit:
    @pytest.fixture
    def audits(self, ledger, tmp_path):
        """Audit of two slides with 30 points; ada has answered three and ben one."""
        ledger.started("run", ["a", "b"], "k")
        for name in "ab":
            write_result(tmp_path, np.ones((400, 400), np.uint8), name)
        audits = open_audit(tmp_path, AuditRequest(points=30))
        first, *more = [point.point_id for point in audits.points()][:3]
        audits.save("ada", dict.fromkeys((first, *more), "tumor"))
        audits.save("ben", {first: "unsure"})
        return audits

    @staticmethod
    def shown(out: Path) -> tuple[str, object]:
        """Line about the audit, and its part of the JSON document."""
        lines, document = (
            CliRunner().invoke(main, ["status", str(out), *more]) for more in ([], ["--json"])
        )
        assert (lines.exit_code, document.exit_code) == (0, 0)
        found = [line for line in lines.output.splitlines() if line.startswith("audit")]
        return "\n".join(found), json.loads(document.stdout)["audit"]

    def test_answers_are_counted_by_reader(self, audits, tmp_path):
        line, document = self.shown(tmp_path)
        assert line == "audit: 30 points, answered: ada 3, ben 1"
        counted = {"points": 30, "readers": {"ada": 3, "ben": 1}, "stale": 0, "fault": ""}
        assert document == counted

    def test_slides_whose_results_have_changed_are_counted(self, audits, tmp_path):
        (tmp_path / "slides" / "a" / "summary.json").unlink()
        line, _ = self.shown(tmp_path)
        assert line.endswith("; not used, because the results have changed: points of 1 slide")

    def test_without_an_audit_there_is_no_line(self, ledger, tmp_path):
        ledger.started("run", ["a"], "k")
        assert self.shown(tmp_path) == ("", None)

    @pytest.mark.parametrize("name", ["design.json", "points.csv", "answers.csv"])
    @pytest.mark.parametrize("content", [None, b"{", b"\xff\0"])
    def test_a_damaged_audit_is_named(self, name, content, audits, tmp_path):
        path = tmp_path / "audit" / name
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        line, _ = self.shown(tmp_path)
        if (name, content) == ("answers.csv", None):
            assert line == "audit: 30 points, answered: none"
        else:
            assert line.startswith(f"audit: {path} ")
            assert read_status(tmp_path).audit == AuditStatus(fault=line.removeprefix("audit: "))
