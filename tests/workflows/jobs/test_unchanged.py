"""A slide that changes after it was planned."""

import os

import pytest
from standins import small_slide

from noctile.pipeline.errors import ChangedWhileReadError, StorageError
from noctile.workflows.jobs import unchanged as module
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.unchanged import check_unchanged


@pytest.fixture
def planned(job, staged):
    prepare_slide(job("prepare"))
    return staged


def test_the_same_content_with_another_time_is_no_change(job, entry, planned):
    os.utime(entry.path, (1, 1))
    check_unchanged(job("finish"), planned)
    assert planned.plan.exists()


def test_other_content_is_a_change_and_the_slide_is_planned_again(job, entry, planned):
    small_slide(entry.path, seed=1, height=900, width=1100)
    with pytest.raises(ChangedWhileReadError, match=r"slide a: .*a\.tif was changed while it was"):
        check_unchanged(job("finish"), planned)
    assert not planned.plan.exists()


def test_a_file_that_has_gone_is_a_change(job, entry, planned):
    entry.path.unlink()
    with pytest.raises(ChangedWhileReadError, match="was removed"):
        check_unchanged(job("finish"), planned)


def test_a_disk_that_does_not_answer_is_no_change(job, planned, monkeypatch):
    def fail(_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "fingerprint", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        check_unchanged(job("finish"), planned)
    assert planned.plan.exists()
