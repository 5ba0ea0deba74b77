"""The first step of a slide."""

import os
from dataclasses import replace

import pytest

from noctile.pipeline import slide_plan
from noctile.pipeline.errors import MppImplausibleError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.channel_order import BGR_FLAG
from noctile.workflows.jobs.messages import StepJob
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.worker import read_plan
from noctile.workflows.results.files import read_json


def test_a_slide_is_planned_in_staging_and_its_stores_are_laid_out(job, staged, run):
    prepared = prepare_slide(job("prepare"))
    plan, tissue, stain = read_plan(staged)
    assert (prepared.fresh, prepared.finished) == (True, False)
    assert prepared.blocks == tuple(block.key for block in plan.blocks)
    assert sum(prepared.tiles_of) == plan.predictions > 0
    assert tissue.mask.any()
    assert stain is None
    assert MaskStore.open(staged.mask).stored_shards() == []
    assert not run.results.slide("a").path.exists()


def test_a_plan_under_the_same_key_is_kept(job, staged):
    first = prepare_slide(job("prepare"))
    written = staged.plan.stat().st_mtime_ns
    second = prepare_slide(job("prepare"))
    assert (first.fresh, second.fresh, second.key) == (True, False, first.key)
    assert staged.plan.stat().st_mtime_ns == written


def test_a_slide_whose_file_was_only_touched_is_not_planned_again(job, entry):
    first = prepare_slide(job("prepare"))
    os.utime(entry.path, (1, 1))
    second = prepare_slide(job("prepare"))
    assert (second.fresh, second.key) == (False, first.key)


def test_a_slide_whose_content_has_changed_is_planned_anew(job, entry):
    first = prepare_slide(job("prepare"))
    entry.path.write_bytes(entry.path.read_bytes() + b"more")
    second = prepare_slide(job("prepare"))
    assert second.fresh
    assert second.key != first.key


@pytest.mark.parametrize(
    ("bgr", "flags"), [(None, ["channel_order_doubtful"]), (True, [BGR_FLAG]), (False, [])]
)
def test_the_channel_order_that_the_user_states_leaves_no_doubt(
    job, entry, staged, monkeypatch, bgr, flags
):
    monkeypatch.setattr("noctile.pipeline.slides.pyramid.channel_order", lambda _: "doubtful")
    planned = prepare_slide(job("prepare"))
    stated = replace(job("prepare"), entry=replace(entry, bgr=bgr))
    assert (prepare_slide(stated).key == planned.key) == (bgr is None)
    assert read_json(staged.plan)["tissue"]["flags"] == flags


class TestFullContent:
    """`--check-content full` finds a change that the sample of the content misses."""

    @pytest.fixture
    def full(self, job) -> StepJob:
        prepare = job("prepare")
        settings = prepare.run.settings.model_copy(update={"check_content": "full"})
        return replace(prepare, run=replace(prepare.run, settings=settings))

    def test_a_change_outside_the_sample_is_found(self, full, entry, monkeypatch):
        monkeypatch.setattr("noctile.pipeline.slides.open.fingerprint", lambda path: "same")
        first = prepare_slide(full)
        assert not prepare_slide(full).fresh
        times = entry.path.stat().st_mtime_ns
        data = bytearray(entry.path.read_bytes())
        data[len(data) // 2] ^= 1
        entry.path.write_bytes(data)
        os.utime(entry.path, ns=(times, times))
        second = prepare_slide(full)
        assert (second.fresh, second.key) == (True, first.key)

    def test_times_decide_where_no_hash_was_recorded(self, full, job, entry):
        prepare_slide(job("prepare"))
        assert not prepare_slide(full).fresh
        os.utime(entry.path, (1, 1))
        assert prepare_slide(full).fresh


def test_tissue_wider_than_a_slide_is_refused(job, staged, monkeypatch):
    monkeypatch.setattr(slide_plan, "MAX_TISSUE_MM", 0.1)
    with pytest.raises(MppImplausibleError, match="--mpp"):
        prepare_slide(job("prepare"))
    assert not staged.plan.exists()
