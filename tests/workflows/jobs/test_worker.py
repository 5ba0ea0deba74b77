"""Caches of a worker process: its predictor is ready before the first block."""

import shutil
from dataclasses import replace

import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models import folder as folders
from noctile.workflows.jobs import worker as jobs
from noctile.workflows.jobs.worker import load_ahead, predictor
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings


@pytest.mark.parametrize("window", ["crop", "blend"])
def test_a_model_that_is_loaded_ahead_has_predicted_once(run, window, monkeypatch):
    predicted = []
    load = jobs.load_predictor

    def spied(*args, **options):
        predict = load(*args, **options)

        class Spy(type(predict)):
            def __call__(self, tiles):
                predicted.append(tiles.shape)
                return super().__call__(tiles)

        predict.__class__ = Spy
        return predict

    monkeypatch.setattr(jobs, "load_predictor", spied)
    run = replace(run, settings=run.settings.model_copy(update={"window": window}))
    load_ahead(run)
    side = run.card.tile_px
    assert predicted == [(1, side, side, 3)]
    misses = jobs.cached_predictor.cache_info().misses
    predictor(run)
    assert jobs.cached_predictor.cache_info().misses == misses == 1


def test_a_model_that_cannot_be_loaded_is_reported_by_the_first_job(run, tmp_path):
    run = replace(run, model=str(tmp_path / "nothing"))
    load_ahead(run)
    with pytest.raises(Exception, match="nothing"):
        predictor(run)


def test_workers_that_outlive_a_run_load_a_replaced_model_again(run, model, tmp_path):
    """Workers of --scheduler do: the same folder may hold another model then."""
    folder = shutil.copytree(model, tmp_path / "model")
    settings = RunSettings(model=str(folder), device="cpu", engine="serial")
    first = open_context(settings, tmp_path / "out")
    predictor(first)
    card = folders.read_card(folder)
    folders.write_card(folder, card.model_dump(exclude={"sha256"}) | {"name": "another"})
    second = open_context(settings, tmp_path / "out")
    assert predictor(second).card == second.card != first.card
    jobs.cached_predictor.cache_clear()
    with pytest.raises(ModelError, match="is not the one that the run began with"):
        predictor(first)
