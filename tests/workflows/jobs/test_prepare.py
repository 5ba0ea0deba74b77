"""The first step of a slide."""

import os

import pytest

from noctile.pipeline.errors import MppImplausibleError
from noctile.pipeline.masks.store import MaskStore
from noctile.workflows.jobs import prepare
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.worker import read_plan


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


def test_a_slide_whose_file_was_written_again_is_planned_anew(job, entry):
    first = prepare_slide(job("prepare"))
    os.utime(entry.path, (1, 1))
    second = prepare_slide(job("prepare"))
    assert second.fresh
    assert second.key != first.key


def test_tissue_wider_than_a_slide_is_refused(job, staged, monkeypatch):
    monkeypatch.setattr(prepare, "MAX_TISSUE_MM", 0.1)
    with pytest.raises(MppImplausibleError, match="--mpp"):
        prepare_slide(job("prepare"))
    assert not staged.plan.exists()
