"""Events of a ledger: their lines, and the state that they add up to."""

import json

import pytest

from noctile.workflows.results.events import (
    Failed,
    Finished,
    Planned,
    Segmented,
    Started,
    parse_events,
    replay,
    to_line,
)

T = "2026-11-28T22:00:00.000+00:00"
EVENTS = [
    (
        Started(T, "run", ("a", "b"), "k"),
        {"event": "start", "command": "run", "slides": ["a", "b"], "pixels_key": "k"},
    ),
    (
        Planned(T, "a", "1", 0.5, True, True),
        {"event": "look", "slide_id": "a", "key": "1", "seconds": 0.5, "fresh": True},
    ),
    (
        Planned(T, "a", "1", 0.5, False, False),
        {"event": "prepare", "slide_id": "a", "key": "1", "seconds": 0.5, "fresh": False},
    ),
    (
        Segmented(T, "a", "1", 2.0, (3, 4)),
        {"event": "segment", "slide_id": "a", "key": "1", "seconds": 2.0, "block": [3, 4]},
    ),
    (
        Finished(T, "a", "1", 1.0),
        {"event": "finish", "slide_id": "a", "key": "1", "seconds": 1.0},
    ),
    (
        Failed(T, "segment", "b", "f", 1.0, 2, "unreadable", "no pixels", "Traceback ..."),
        {
            "event": "failed",
            "step": "segment",
            "slide_id": "b",
            "key": "f",
            "seconds": 1.0,
            "attempt": 2,
            "reason": "unreadable",
            "message": "no pixels",
            "traceback": "Traceback ...",
        },
    ),
]


@pytest.mark.parametrize(("event", "values"), EVENTS)
def test_an_event_has_its_line_on_disk_and_is_read_back(event, values):
    line = to_line(event)
    assert line == json.dumps({"time": T, **values}) + "\n"
    assert list(parse_events([line])) == [event]


@pytest.mark.parametrize(
    "text", ["", "null", "[1]", '{"event": "segment"}', '{"event": "?"}', '{"event": "fini']
)
def test_a_line_that_is_no_event_is_skipped(text):
    good = to_line(Finished(T, "a", "1", 1.0))
    assert len(list(parse_events([text, good]))) == 1


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
