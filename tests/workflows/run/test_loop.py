"""Loop of a run, with an engine whose jobs do no work."""

from collections.abc import Callable
from typing import Any

import pytest

from noctile.pipeline.errors import ChangedWhileReadError, SlideReadError, StorageError, StoreError
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.messages import Prepared, StepJob
from noctile.workflows.results.files import write_json
from noctile.workflows.results.standing import Standing
from noctile.workflows.run import loop as module
from noctile.workflows.run import retries
from noctile.workflows.run.fault_origin import FaultOrigin
from noctile.workflows.run.loop import RunLoop
from noctile.workflows.run.progress import Progress
from noctile.workflows.run.run import held, open_context
from noctile.workflows.run.stop import Stop
from noctile.workflows.run.submission import settle
from noctile.workflows.settings import RunSettings

BLOCKS = ((0, 0), (0, 1))


def simulate(job: StepJob) -> Any:
    """Write what a step leaves, without its work."""
    slide_id, results = job.step.slide_id, job.run.results
    key = job.run.slide_key(slide_id, None)
    if job.step.kind == "prepare":
        return Prepared(key, True, False, BLOCKS, (3, 9), slide_id, results.staged(slide_id))
    if job.step.kind == "segment":
        write_json(results.staged(slide_id).block_stats(job.step.block), {})
        return dict(zip(BLOCKS, (3, 9), strict=True))[job.step.block]
    summary = {"key": key, "tumor_area_mm2": 0.25, "tissue_area_mm2": 1.0}
    write_json(results.slide(slide_id).summary, summary)
    return None


@pytest.fixture
def play(model, tmp_path, monkeypatch) -> Callable[..., tuple[RunLoop, Progress, list[str]]]:
    """Function that runs slides a and b, whose steps a function does."""
    entries = [SlideEntry(i, tmp_path / f"{i}.tif", None, None, None, ()) for i in "ab"]
    for entry in entries:
        entry.path.touch()

    def run(do: Callable[[StepJob], Any] = simulate, after_planning=None, **changed):
        settings = RunSettings(model=str(model), engine="serial", device="cpu", **changed)
        out, done = tmp_path / "out", []
        planning = after_planning is not None
        context, progress = open_context(settings, out, "r", planning=planning), Progress(2)
        stop = Stop(out, 0, None, lambda reason: None)

        def observed(job: StepJob) -> Any:
            done.append(job.key)
            return do(job)

        monkeypatch.setattr(module, "do", observed)
        with held(out, stop, planning=planning) as (lease, ledger):
            origin = FaultOrigin(entries, out, lease)
            standing = Standing(context.results, ledger.state)
            submission = settle(entries, (), standing, ledger.state)
            loop = RunLoop(
                submission, context, ledger, standing, stop, origin, progress, lambda *_: None
            )
            loop.run(SerialEngine(), after_planning)
        return loop, progress, done

    return run


def test_every_slide_is_prepared_segmented_from_its_largest_block_on_and_finished(play):
    loop, progress, done = play()
    assert done[:2] == ["prepare/a", "prepare/b"]  # the preflight
    for i in "ab":
        steps = [key for key in done[2:] if f"/{i}" in key]
        assert steps == [f"prepare/{i}", f"segment/{i}/0/1", f"segment/{i}/0/0", f"finish/{i}"]
    assert (progress.done, progress.predictions) == (2, 24)
    assert [row.status for row in loop.rows()] == ["done", "done"]


def test_a_slide_that_fails_keeps_its_failure_in_the_next_run_until_it_is_retried(play):
    def broken(job: StepJob) -> Any:
        if job.key == "segment/a/0/0":
            raise SlideReadError("slide a: planted fault")
        return simulate(job)

    loop, progress, _ = play(broken)
    assert progress.failures["a"].reason == "unreadable"
    assert [row.status for row in loop.rows()] == ["failed", "done"]
    assert not any("/a" in key for key in play()[2])
    assert play(retry_failed=True)[1].done == 2


def test_a_slide_whose_failure_was_not_its_own_is_tried_again_by_the_same_command(play):
    def broken(job: StepJob) -> Any:
        if job.key == "segment/a/0/0":
            raise StoreError("a shard is damaged")
        return simulate(job)

    assert play(broken)[1].failures["a"].reason == "store"
    _, progress, done = play()
    assert (progress.done, progress.failures) == (2, {})
    assert "finish/a" in done


def test_a_step_that_meets_a_passing_error_of_storage_is_tried_again(play, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0, 0.0))
    errors = ["segment/a/0/0", "segment/a/0/0", "prepare/b", "finish/b"]

    def broken(job: StepJob) -> Any:
        if job.key in errors:
            errors.remove(job.key)
            raise StorageError("slide: no answer")
        return simulate(job)

    _, progress, done = play(broken)
    assert (progress.done, progress.failures, errors) == (2, {}, [])
    assert done.count("segment/a/0/0") == 3


def test_storage_that_fails_for_good_stops_the_run_and_no_slide_fails(play, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES_S", (0.1, 0.1, 0.1))

    def broken(job: StepJob) -> Any:
        raise StorageError("slide: no answer")

    loop, progress, done = play(broken)
    assert progress.failures == {}
    assert {(row.status, row.reason) for row in loop.rows()} == {("skipped", "stopped")}
    assert 4 <= len(done) <= 8


def test_one_file_that_alone_cannot_be_read_is_unreadable(play, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0, 0.0))

    def broken(job: StepJob) -> Any:
        if job.key == "segment/a/0/0":
            raise StorageError("slide a: no answer")
        return simulate(job)

    _, progress, done = play(broken)
    assert {i: failure.reason for i, failure in progress.failures.items()} == {"a": "unreadable"}
    assert "the disk under this file is damaged" in progress.failures["a"].message
    assert progress.done == 1
    assert done.count("segment/a/0/0") == 4


@pytest.mark.parametrize("times", [1, 2])
def test_a_slide_that_changes_while_it_is_read_is_done_again_once(play, times):
    changes = ["a"] * times

    def changing(job: StepJob) -> Any:
        if job.key == "finish/a" and changes:
            changes.pop()
            raise ChangedWhileReadError("slide a: its file was changed")
        return simulate(job)

    _, progress, done = play(changing)
    assert done.count("finish/a") == 2
    assert done.count("segment/a/0/0") == 2
    if times == 1:
        assert (progress.done, progress.failures) == (2, {})
    else:
        assert progress.failures["a"].reason == "changed_while_read"
        assert progress.done == 1


def test_with_a_policy_for_planned_slides_nothing_is_predicted(play, tmp_path):
    planned = []

    def after_planning(slide_id, prepared, done):
        planned.append((slide_id, prepared.blocks, done))
        return ""

    _, progress, done = play(after_planning=after_planning)
    assert done == ["prepare/a", "prepare/b"]
    assert planned == [("a", BLOCKS, set()), ("b", BLOCKS, set())]
    assert (progress.done, progress.predictions) == (2, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".plan"]


def test_steps_that_take_too_long_together_fail_their_slide(play, monkeypatch):
    monkeypatch.setattr(RunLoop, "_limit_s", property(lambda loop: -1.0))
    _, progress, _ = play()
    assert {i: failure.reason for i, failure in progress.failures.items()} == {
        "a": "timeout",
        "b": "timeout",
    }


def test_a_failure_that_is_not_the_slides_stops_the_run(play, monkeypatch):
    def broken(job: StepJob) -> Any:
        raise SlideReadError("cannot be read")

    monkeypatch.setattr(FaultOrigin, "not_the_slide", lambda *_: "the disk has gone")
    loop, progress, done = play(broken)
    assert (done, progress.failures) == (["prepare/a"], {})
    assert {(row.status, row.reason, row.message) for row in loop.rows()} == {
        ("skipped", "stopped", "the disk has gone")
    }
