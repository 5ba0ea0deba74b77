"""Lock and history of files that several people write, on those of reviews."""

import errno
import json
import os
import threading

import pytest
from disk_faults import Fault, planted, without_syncs

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.shared_files import locked, remember


@pytest.fixture
def results(tmp_path):
    (tmp_path / "review").mkdir()
    return ResultsFolder(tmp_path)


def events(results):
    found = []
    for line in results.review_history.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append("torn")
    return found


def test_an_event_after_a_torn_one_is_whole(results):
    remember(results.review_history, [{"n": 1}])
    with without_syncs(), planted(results.path, Fault("kill", 2, torn=True)) as watch:
        remember(results.review_history, [{"n": 2, "note": "x" * 50}])
    assert watch.killed
    remember(results.review_history, [{"n": 3}])
    assert events(results) == [{"n": 1}, "torn", {"n": 3}]


def test_half_a_character_does_not_stop_the_history(results):
    remember(results.review_history, [{"note": "\ud800"}])
    assert events(results) == [{"note": "\ud800"}]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_the_history_is_written_to_no_other_file(results, tmp_path, kind):
    path, outside = results.review_history, tmp_path / "outside"
    outside.write_text("mine")
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StoreError, match=r"history\.jsonl (is a link|cannot be written)"):
        remember(results.review_history, [{"n": 1}])
    assert outside.read_text() == "mine"


def test_one_thread_waits_for_another(results):
    order, inside = [], threading.Event()

    def late():
        inside.wait()
        with locked(results.review, results.review_csv):
            order.append("late")

    thread = threading.Thread(target=late)
    thread.start()
    with locked(results.review, results.review_csv):
        inside.set()
        thread.join(0.1)
        order.append("early")
    thread.join()
    assert order == ["early", "late"]


def test_a_file_system_without_locks_is_named(results, monkeypatch):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(StoreError, match=r"review cannot be locked: No locks available; copy"),
        locked(results.review),
    ):
        pass


@pytest.mark.parametrize("name", ["review", "review.csv", "review/.lock"])
def test_a_link_is_not_followed(results, tmp_path, name):
    outside, path = tmp_path / "outside", tmp_path / name
    outside.mkdir()
    if path.is_dir():
        path.rmdir()
    path.symlink_to(outside / "new")
    with pytest.raises(StoreError), locked(results.review, results.review_csv):
        pass
    assert not list(outside.iterdir())
