"""A result that is done remains until a complete one replaces it, also after kills."""

import json
import os
import threading
from pathlib import Path

import pytest
from standins import small_slide

from noctile.pipeline.errors import SlideReadError, StoreError
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands import plan as plan_module
from noctile.workflows.commands.plan import PlanResult, plan_slides
from noctile.workflows.commands.status import read_status
from noctile.workflows.commands.verify import verify
from noctile.workflows.commands.verify_slide import verify_slide
from noctile.workflows.engines.base import attempt
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.results import staging
from noctile.workflows.results.checksums import slide_fault, write_with_checksums
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.shared_files import locked
from noctile.workflows.results.staging import clear, heal, promote, take_healed
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


def test_clearing_a_slides_folder_keeps_files_of_the_user(tmp_path):
    folder = SlideFolder(tmp_path)
    for path in (folder.mask, folder.heat):
        path.mkdir()
        (path / "x").write_text("x")
    for path in (folder.summary, folder.plan, tmp_path / "my notes.txt"):
        path.write_text("x")
    clear(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["my notes.txt"]


def test_clearing_removes_links_and_nothing_where_they_lead(tmp_path):
    mine, folder = tmp_path / "mine", SlideFolder(tmp_path / "a")
    mine.mkdir()
    folder.path.mkdir()
    (mine / "mine.txt").write_text("mine")
    for path in (folder.mask, folder.blocks):
        path.symlink_to(mine)
    folder.plan.symlink_to(mine / "mine.txt")
    os.mkfifo(folder.heat)
    clear(folder)
    assert list(folder.path.iterdir()) == []
    assert (mine / "mine.txt").read_text() == "mine"


def complete_result(path, text):
    """A complete result of one slide, with this text in each file."""
    folder = SlideFolder(path)
    for image in (folder.mask, folder.heat):
        image.mkdir(parents=True)
    for file in set(folder.required) - {folder.mask, folder.heat}:
        file.write_text(text)
    write_with_checksums(folder, {"text": text})
    return folder


def test_a_new_result_replaces_the_old_one_and_takes_over_files_of_the_user(tmp_path):
    old, new = (
        complete_result(tmp_path / "slides" / "a", "old"),
        complete_result(tmp_path / ".staging" / "a", "new"),
    )
    (old.path / "my notes.txt").write_text("mine")
    (old.path / ".summary.123.tmp.json").write_text("left by a killed writer")
    (old.path / "preview.txt").write_text("mine too")
    (new.path / "preview.txt").write_text("and newer")
    promote(new, old)
    assert not new.path.exists()
    assert slide_fault(old) is None
    assert read_json(old.summary) == {"text": "new"}
    assert (old.path / "my notes.txt").read_text() == "mine"
    assert (old.path / "preview.txt").read_text() == "and newer"
    assert [p.read_text() for p in old.replaced.iterdir()] == [
        "mine too"
    ]  # two of one name: both are kept


def test_a_promotion_that_the_disk_refuses_is_an_error_that_names_both_folders(tmp_path):
    new = complete_result(tmp_path / ".staging" / "a", "new")
    (tmp_path / "slides").write_text("in the way")
    with pytest.raises(StoreError, match=r"\.staging/a cannot be moved to .*slides/a"):
        promote(new, SlideFolder(tmp_path / "slides" / "a"))


def test_healing_promotes_complete_results_and_restores_old_ones_of_incomplete_results(
    tmp_path,
):
    for name in "ab":
        complete_result(tmp_path / ".staging" / name, "new")
        complete_result(tmp_path / ".staging" / name / ".replaced", "old")
    (tmp_path / ".staging" / "b" / "summary.json").unlink()
    (tmp_path / ".staging" / "c").mkdir()
    (tmp_path / "slides").mkdir()
    heal(ResultsFolder(tmp_path))
    found = {p.parent.name: read_json(p)["text"] for p in tmp_path.glob("slides/*/summary.json")}
    assert found == {"a": "new", "b": "old"}
    assert sorted(p.name for p in (tmp_path / ".staging").iterdir()) == ["b", "c"]


@pytest.mark.parametrize("name", ["summary.json", "preview.jpg"])
def test_healing_promotes_no_result_whose_files_are_empty(tmp_path, name):
    new = complete_result(tmp_path / ".staging" / "a", "new")
    old = complete_result(tmp_path / "slides" / "a", "old")
    (new.path / name).write_bytes(b"")
    heal(ResultsFolder(tmp_path))
    assert read_json(old.summary) == {"text": "old"}


def test_a_promotion_is_on_the_disk_before_the_old_result_is_removed(tmp_path, monkeypatch):
    new = complete_result(tmp_path / ".staging" / "a", "new")
    old = complete_result(tmp_path / "slides" / "a", "old")
    steps = []
    monkeypatch.setattr(staging, "sync_folder", lambda path: steps.append(path.name))
    monkeypatch.setattr(staging, "clear", lambda folder: steps.append(f"clear {folder.path.name}"))
    promote(new, old)
    assert steps[:5] == ["a", "a", "slides", ".staging", "clear .replaced"]


@pytest.mark.parametrize("name", ["audit", ".measures"])
def test_files_of_killed_writers_are_swept_once_no_writer_is_at_work(name, tmp_path):
    """A living writer holds the lock of the folder until its file has its name."""
    folder, taken = tmp_path / name, threading.Event()
    folder.mkdir()
    dead, living = folder / ".s.1.tmp.json", folder / ".t.2.tmp.json"
    dead.write_text("{")
    living.write_text("{}")

    def take() -> None:
        take_healed(ResultsFolder(tmp_path), "out", print).close()
        taken.set()

    with locked(folder):
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.3)
        living.rename(folder / "t.json")
    thread.join()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "t.json"]


def test_a_folder_that_cannot_be_swept_stops_no_run(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    theirs = tmp_path / "elsewhere" / ".s.1.tmp.json"
    theirs.write_text("{")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit").symlink_to(tmp_path / "elsewhere")
    take_healed(ResultsFolder(tmp_path / "out"), "out", print).close()
    assert theirs.exists()


OTHER = {"overlap_px": 0}
"""Another setting, under which every slide is done anew."""


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(plan_module, "CALIBRATION_S", 0.05)


@pytest.fixture
def slides(tmp_path) -> Path:
    (folder := tmp_path / "archive").mkdir()
    for seed, name in enumerate("ab"):
        small_slide(folder / f"{name}.tif", seed=seed, height=1000, width=1100)
    return folder


@pytest.fixture
def out(slides, model, tmp_path) -> Path:
    """A finished run, with a file of the user in a slide's folder."""
    run(slides, tmp_path / "out", model)
    (tmp_path / "out" / "slides" / "a" / "my notes.txt").write_text("keep me")
    return tmp_path / "out"


def settings(model: Path, **more) -> RunSettings:
    return RunSettings(
        model=str(model), **{"engine": "serial", "block_px": 480, "device": "cpu", **more}
    )


def run(
    slides: Path, out: Path, model: Path, observe=lambda progress, say: None, **more
) -> RunResult:
    return run_slides(
        find_slides([slides], None, None).slides, settings(model, **more), out, observe
    )


def plan(slides: Path, out: Path, model: Path, **more) -> PlanResult:
    entries = find_slides([slides], None, None).slides
    return plan_slides(entries, settings(model, **more), out, lambda progress, say: None)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of every result, and the cohort's table."""
    files = [*(out / "slides").rglob("*"), out / "slides.csv"]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(files) if p.is_file()}


def results_of(out: Path, slide_id: str) -> dict[str, bytes]:
    """Every file of the result of one slide."""
    return {
        name: data for name, data in contents(out).items() if name.startswith(f"slides/{slide_id}/")
    }


def keys(out: Path) -> dict[str, str]:
    """Key of the result of each slide."""
    return {
        p.parent.name: json.loads(p.read_text())["key"] for p in out.glob("slides/*/summary.json")
    }


def same_results(a: Path, b: Path) -> None:
    """Compare results without the note of the user and the column of seconds."""
    one, other = (contents(out) for out in (a, b))
    for files in (one, other):
        files.pop("slides.csv")
        files.pop("slides/a/my notes.txt", None)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


class TestPlan:
    def test_a_plan_with_another_setting_changes_no_result(self, slides, out, model):
        before = contents(out)
        result = plan(slides, out, model, block_px=960)
        assert [slide.state for slide in result.slides] == ["ready", "ready"]
        assert result.left > 0
        assert contents(out) == before

    def test_a_plan_changes_no_result_of_a_slide_that_was_touched(self, slides, out, model):
        before = contents(out)
        os.utime(slides / "a.tif", (1, 1))
        assert [slide.state for slide in plan(slides, out, model).slides] == ["done", "done"]
        assert contents(out) == before

    def test_a_run_continues_a_plan_with_another_setting_and_equals_a_fresh_run(
        self, slides, out, model, tmp_path
    ):
        plan(slides, out, model, **OTHER)
        planned = (out / ".plan" / "a" / "plan.json").stat().st_mtime_ns
        run(slides, out, model, **OTHER, redo=True)
        assert (out / "slides" / "a" / "plan.json").stat().st_mtime_ns == planned
        run(slides, tmp_path / "fresh", model, **OTHER, redo=True)
        same_results(out, tmp_path / "fresh")

    def test_after_a_plan_with_another_setting_the_first_run_is_still_done(
        self, slides, out, model
    ):
        before = contents(out)
        plan(slides, out, model, **OTHER)
        assert read_status(out).done == 2
        assert [slide.state for slide in plan(slides, out, model).slides] == ["done", "done"]
        assert read_status(out).done == 2
        plan(slides, out, model, **OTHER)
        assert run(slides, out, model).exit_code == 0
        assert read_status(out).done == 2
        assert contents(out).keys() == before.keys()
        assert not (out / ".staging").exists()

    def test_a_result_without_its_summary_is_planned_as_predicted_and_not_changed(
        self, slides, out, model
    ):
        (out / "slides" / "a" / "summary.json").unlink()
        before = contents(out)
        result = plan(slides, out, model)
        assert [(slide.state, slide.predictions_left) for slide in result.slides] == [
            ("ready", 0),
            ("done", 0),
        ]
        assert contents(out) == before


class TestRun:
    @pytest.mark.parametrize("after", [1, 3, 5, 8])
    def test_a_run_with_another_setting_that_is_stopped_leaves_complete_results(
        self, slides, out, model, tmp_path, after
    ):
        before, old, calls = contents(out), keys(out), []

        def interrupt(progress, say):
            calls.append(say)
            if len(calls) == after:
                raise KeyboardInterrupt

        stopped = run(slides, out, model, interrupt, **OTHER, redo=True)
        assert stopped.exit_code == 3
        replaced = {row.slide_id for row in stopped.rows if row.status == "done"}
        assert {name for name, key in keys(out).items() if key != old[name]} == replaced
        for slide_id in {"a", "b"} - replaced:
            assert results_of(out, slide_id) == {
                name: before[name] for name in before if f"/{slide_id}/" in name
            }
        assert [verify_slide(SlideFolder(out / "slides" / name), None).faults for name in "ab"] == [
            (),
            (),
        ]

        assert run(slides, out, model, **OTHER, redo=True).exit_code == 0
        run(slides, tmp_path / "fresh", model, **OTHER, redo=True)
        same_results(out, tmp_path / "fresh")
        assert (out / "slides" / "a" / "my notes.txt").read_text() == "keep me"
        assert not (out / ".staging").exists()

    @pytest.mark.parametrize("target", ["slides/a", "slides"])
    def test_a_run_that_is_interrupted_within_a_move_ends_with_true_tables(
        self, slides, out, model, monkeypatch, target
    ):
        """The second Ctrl-C comes between the two renames, or after both and before the report."""
        replace = Path.replace

        def interrupted(path: Path, to: Path) -> Path:
            if str(to).endswith("slides/a") and not done:
                done.append(path)
                if target == "slides":
                    replace(path, to)
                raise KeyboardInterrupt
            return replace(path, to)

        done: list[Path] = []
        monkeypatch.setattr(Path, "replace", interrupted)
        assert run(slides, out, model, **OTHER, redo=True).exit_code == 3
        assert done
        result = verify(out, (), 1, lambda check: None)
        assert (result.wrong, result.tables) == ([], ())

    def test_a_new_result_of_a_run_keeps_files_of_the_user(self, slides, out, model, tmp_path):
        (out / "slides" / "a" / "mine").mkdir()
        (out / "slides" / "a" / "mine" / "outline.geojson").write_text("{}")
        run(slides, out, model, **OTHER, redo=True)
        assert (out / "slides" / "a" / "mine" / "outline.geojson").read_text() == "{}"
        assert (out / "slides" / "a" / "my notes.txt").read_text() == "keep me"
        assert not (out / "slides" / "a" / ".replaced").exists()

    def test_a_slide_that_fails_under_another_setting_keeps_its_result(
        self, slides, out, model, monkeypatch
    ):
        def broken(reader, plan, block, *rest):
            if plan.slide_id == "a":
                raise SlideReadError("slide a: planted fault")
            return segment_block(reader, plan, block, *rest)

        before = results_of(out, "a")
        with monkeypatch.context() as patch:
            patch.setattr("noctile.workflows.jobs.segment_block.segment_block", broken)
            assert run(slides, out, model, **OTHER, redo=True).exit_code == 1
        assert results_of(out, "a") == before
        assert "planted fault" in (out / "failures" / "a.txt").read_text()
        assert read_status(out).failed[0].report == "failures/a.txt"
        assert run(slides, out, model, **OTHER, retry_failed=True, redo=True).exit_code == 0
        assert not (out / "failures" / "a.txt").exists()

    def test_an_unfinished_result_of_an_earlier_version_is_replaced_by_a_complete_one(
        self, slides, out, model, tmp_path
    ):
        """An early version worked in ``slides/``: plan and blocks are there, the summary is not."""
        for name in (
            "summary.json",
            "checksums.json",
            "blocks.json",
            "tiles.parquet",
            "preview.jpg",
        ):
            (out / "slides" / "a" / name).unlink()
        (out / "slides" / "a" / "blocks").mkdir()
        (out / "slides" / "a" / "blocks" / "0.0.json").write_text("{}")
        (out / "slides" / "a" / "failure.txt").write_text("it was killed")
        assert run(slides, out, model).exit_code == 0
        run(slides, tmp_path / "fresh", model)
        same_results(out, tmp_path / "fresh")

    def test_a_step_that_is_repeated_after_its_promotion_changes_nothing(
        self, slides, out, model, tmp_path, monkeypatch
    ):
        """A worker can die after the promotion and before its report."""

        class Twice(SerialEngine):
            def run(self, do, next_job, stop):
                def repeated():
                    job = next_job()
                    if job and job.step.kind == "finish":
                        assert attempt(do, job).failure is None
                    return job

                return super().run(do, repeated, stop)

        monkeypatch.setattr("noctile.workflows.run.run.SerialEngine", Twice)
        assert run(slides, out, model, **OTHER, redo=True).exit_code == 0
        monkeypatch.undo()
        run(slides, tmp_path / "fresh", model, **OTHER, redo=True)
        same_results(out, tmp_path / "fresh")


class TestDamage:
    """Files that a power cut left empty or torn are named and made again, and no others."""

    @pytest.fixture
    def said(self, slides, model, tmp_path):
        """Function that runs the same command again and returns its lines about damage."""

        def again() -> list[str]:
            lines = []
            result = run(slides, tmp_path / "out", model, lambda progress, say: lines.append(say))
            assert result.exit_code == 0
            return [line for line in lines if "again:" in line]

        return again

    @pytest.mark.parametrize(
        "name",
        [
            "summary.json",
            "plan.json",
            "tissue.png",
            "blocks.json",
            "checksums.json",
            "preview.jpg",
            "mask.ome.zarr/zarr.json",
            "mask.ome.zarr/labels/classes/0/c/0/0",
        ],
    )
    def test_a_finished_slide_with_an_empty_file_is_made_again_and_named(self, out, said, name):
        before = contents(out)
        (out / "slides" / "b" / name).write_bytes(b"")
        (line,) = said()
        assert line.startswith("b: made again: ")
        assert name in line
        after = contents(out)
        assert [
            n
            for n in before
            if n.startswith("slides/b/") and "json" not in n and before[n] != after[n]
        ] == []
        assert before.keys() == after.keys()
        assert verify_slide(SlideFolder(out / "slides" / "b"), None).faults == ()

    def test_files_of_the_user_do_not_cause_work(self, out, said, monkeypatch):
        for name in ("my notes.txt", "mask.ome.zarr/.DS_Store", "blocks.json.bak"):
            (out / "slides" / "a" / name).touch()
        monkeypatch.setattr("noctile.workflows.jobs.segment_block.segment_block", None)
        assert said() == []

    def stop_before_the_end(self, slides, out, model) -> None:
        """Segment every block of slide a and stop."""

        def interrupt(progress, say):
            if events(out, "segment"):
                raise KeyboardInterrupt

        assert run(slides, out, model, interrupt).exit_code == 3

    @pytest.mark.parametrize("kept", [0, 30])
    @pytest.mark.parametrize("kind", ["shard", "statistics"])
    def test_a_block_with_a_torn_file_is_segmented_again_and_named(
        self, slides, model, tmp_path, said, kind, kept
    ):
        out = tmp_path / "out"
        self.stop_before_the_end(slides, out, model)
        row, col = events(out, "segment")[0]["block"]
        names = {
            "shard": f"heat.ome.zarr/0/c/0/{row}/{col}",
            "statistics": f"blocks/{row}.{col}.json",
        }
        path = out / ".staging" / "a" / names[kind]
        path.write_bytes(path.read_bytes()[:kept])
        (line,) = said()
        assert line.startswith(f"a: block {row}, {col} is segmented again: ")
        run(slides, tmp_path / "fresh", model)
        same_results(out, tmp_path / "fresh")

    @pytest.mark.parametrize("name", ["plan.json", "tissue.png", "mask.ome.zarr/zarr.json"])
    def test_a_torn_file_of_a_plan_has_the_slide_planned_again(
        self, slides, model, tmp_path, said, name
    ):
        out = tmp_path / "out"
        self.stop_before_the_end(slides, out, model)
        (out / ".staging" / "a" / name).write_bytes(b"")
        (line,) = said()
        assert line.startswith("a: made again: ")
        run(slides, tmp_path / "fresh", model)
        same_results(out, tmp_path / "fresh")


class KilledError(BaseException):
    """Stands for a kill: no further file is written."""


@pytest.mark.parametrize("step", ["before", "between", "notes", "removal"])
class TestKilledPromotion:
    """A run is killed when slide a is complete: before or between the two renames, or while the old
    result is removed."""

    @pytest.fixture(autouse=True)
    def _killed(self, slides, out, model, monkeypatch, step):
        replace, clear_all = Path.replace, clear
        targets = {"before": ".replaced", "between": "slides/a", "notes": "slides/a/my notes.txt"}

        def killed(path: Path, target: Path) -> Path:
            if step in targets and str(target).endswith(f"/{targets[step]}"):
                raise KilledError
            return replace(path, target)

        def killed_clear(folder) -> None:
            if step == "removal" and folder.path.name == ".replaced":
                raise KilledError
            clear_all(folder)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            patch.setattr(staging, "clear", killed_clear)
            with pytest.raises(KilledError):
                run(slides, out, model, **OTHER, redo=True)

    def test_the_same_command_ends_with_a_complete_result_and_the_files_of_the_user(
        self, slides, out, model, tmp_path, step
    ):
        assert run(slides, out, model, **OTHER, redo=True).exit_code == 0
        run(slides, tmp_path / "fresh", model, **OTHER, redo=True)
        same_results(out, tmp_path / "fresh")
        assert (out / "slides" / "a" / "my notes.txt").read_text() == "keep me"
        assert (
            sorted(p.name for p in out.glob(".*"))
            == sorted(p.name for p in out.glob("slides/a/.*"))
            == []
        )
        predicted = [
            (line["slide_id"], line["key"], *line["block"]) for line in events(out, "segment")
        ]
        assert len(predicted) == len(set(predicted))

    def test_any_other_command_ends_with_a_complete_result_too(
        self, slides, out, model, tmp_path, step
    ):
        plan(slides, out, model, block_px=960)
        assert set(keys(out)) == {"a", "b"}
        assert verify_slide(SlideFolder(out / "slides" / "a"), None).faults == ()
        assert run(slides, out, model, redo=True).exit_code == 0
        run(slides, tmp_path / "fresh", model)
        same_results(out, tmp_path / "fresh")
        assert (out / "slides" / "a" / "my notes.txt").read_text() == "keep me"


def events(out: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (out / "ledger.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]
