"""State that the events of a ledger add up to."""

from noctile.workflows.results.events import (
    Failed,
    Finished,
    LeftOut,
    Planned,
    Segmented,
    Started,
    Submitted,
)
from noctile.workflows.results.ledger_state import replay

T = "2026-11-28T22:00:00.000+00:00"


def test_a_slide_keeps_its_first_failure_without_the_traceback():
    first = Failed(T, "segment", "a", "f", 1.0, 1, "timeout", "too long", "Traceback ...")
    later = Failed(T, "segment", "a", "f", 1.0, 1, "store", "after that")
    failure = replay([first, later]).failure("a")
    assert failure is not None
    assert (failure.reason, failure.traceback) == ("timeout", "")


def test_a_slide_that_was_only_planned_waits_after_the_next_start():
    start = Started(T, "run", ("a", "b"), "k")
    planned = [Planned(T, i, i, 1.0, True, False) for i in "ab"]
    state = replay([start, *planned, Segmented(T, "b", "b", 1.0, (0, 0))])
    assert [state.slides[i].stage for i in "ab"] == ["begun", "begun"]
    state.take(start)
    assert [state.slides[i].stage for i in "ab"] == ["waiting", "begun"]


def test_a_preflight_begins_no_slide():
    state = replay([Started(T, "plan", ("a",), "k"), Planned(T, "a", "1", 1.0, True, False)])
    assert state.slides["a"].stage == "waiting"
    assert state.is_planned("a")


def submitted(slide_id: str, cells: dict[str, str], path: str = "/x.svs") -> Submitted:
    return Submitted(T, slide_id, path, 1, 1, cells, "r")


def test_a_later_manifest_updates_the_columns_of_which_it_speaks():
    events = [submitted("a", {"patient_id": "P", "age": "7"}), submitted("a", {"age": "8"}, "/y")]
    last = replay(events).slides["a"].submitted
    assert last is not None
    assert (last.cells, last.path) == ({"patient_id": "P", "age": "8"}, "/y")


def test_a_path_that_was_left_out_and_is_taken_later_is_a_slide():
    left = LeftOut(T, "a", "/x.svs", "a link to nothing", "r")
    assert replay([left]).slides["a"].left_out == left
    assert replay([left, submitted("a", {})]).slides["a"].left_out is None


def test_a_slide_knows_the_calls_that_named_it_failed_it_and_did_it():
    failed = Failed(T, "prepare", "a", "f", 1.0, 1, "unreadable", "no pixels")
    start = Started(T, "run", ("a",), "k", "second")
    state = replay([Started(T, "run", ("a",), "k", "first"), failed, start])
    assert (state.slides["a"].failed_in, state.slides["a"].named) == ("first", "second")
    done = replay([start, Finished(T, "a", "1", 1.0, "second")]).slides["a"]
    assert (done.done_by, done.failed_in) == ("second", "")


def test_events_of_another_ledger_keep_their_calls():
    failed = Failed(T, "prepare", "a", "f", 1.0, 1, "unreadable", "no pixels", run="theirs")
    slide = replay([Started(T, "run", (), "k", "ours"), submitted("a", {}), failed]).slides["a"]
    assert (slide.named, slide.failed_in) == ("r", "theirs")
