"""Events of a ledger: their lines, and the state that they add up to."""

import json

import pytest

from noctile.workflows.results.events import (
    Failed,
    Finished,
    LeftOut,
    Planned,
    Segmented,
    Started,
    Submitted,
    parse_events,
    to_line,
)

T = "2026-11-28T22:00:00.000+00:00"
C = {"fingerprint": "c"}
EVENTS = [
    (
        Started(T, "run", ("a", "b"), "k", "r"),
        {"event": "start", "command": "run", "slides": ["a", "b"], "pixels_key": "k", "run": "r"},
    ),
    (
        Submitted(T, "a", "/x/a.svs", 9, 1, {"patient_id": "P"}, "r"),
        {
            "event": "slide",
            "slide_id": "a",
            "path": "/x/a.svs",
            "size": 9,
            "mtime_ns": 1,
            "cells": {"patient_id": "P"},
            "run": "r",
        },
    ),
    (
        LeftOut(T, "lost", "/x/lost", "cannot be read", "r"),
        {
            "event": "left_out",
            "slide_id": "lost",
            "path": "/x/lost",
            "reason": "cannot be read",
            "run": "r",
        },
    ),
    (
        Planned(T, "a", "1", 0.5, True, True, "c"),
        {"event": "look", "slide_id": "a", "key": "1", "seconds": 0.5, "fresh": True, **C},
    ),
    (
        Planned(T, "a", "1", 0.5, False, False, "c"),
        {"event": "prepare", "slide_id": "a", "key": "1", "seconds": 0.5, "fresh": False, **C},
    ),
    (
        Segmented(T, "a", "1", 2.0, (3, 4)),
        {"event": "segment", "slide_id": "a", "key": "1", "seconds": 2.0, "block": [3, 4]},
    ),
    (
        Finished(T, "a", "1", 1.0, "r"),
        {"event": "finish", "slide_id": "a", "key": "1", "seconds": 1.0, "run": "r"},
    ),
    (
        Failed(T, "segment", "b", "f", 1.0, 2, "unreadable", "no pixels", "Traceback ...", "r"),
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
            "run": "r",
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
