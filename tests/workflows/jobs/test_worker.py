"""The model is ready before the first block, if it can be loaded at all."""

import shutil
from dataclasses import replace

import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models import folder as folders
from noctile.pipeline.plan import Block, TileGrid, TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.workflows.jobs import worker as jobs
from noctile.workflows.jobs.finish import collect_block_stats
from noctile.workflows.jobs.worker import load_ahead, predictor
from noctile.workflows.results.files import write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings


@pytest.fixture
def run(model, tmp_path):
    jobs._loaded.cache_clear()
    yield open_context(
        RunSettings(model=str(model), device="cpu", engine="serial"), tmp_path / "out"
    )
    jobs._loaded.cache_clear()


@pytest.mark.parametrize("window", ["crop", "blend"])
def test_the_model_of_the_jobs_is_loaded_and_has_looked_once(run, window, monkeypatch):
    looked = []
    load = jobs.load_predictor

    def spied(*args, **options):
        predict = load(*args, **options)

        class Spy(type(predict)):
            def __call__(self, tiles):
                looked.append(tiles.shape)
                return super().__call__(tiles)

        predict.__class__ = Spy
        return predict

    monkeypatch.setattr(jobs, "load_predictor", spied)
    run = replace(run, settings=run.settings.model_copy(update={"window": window}))
    load_ahead(run)
    side = run.card.tile_px
    assert looked == [(1, side, side, 3)]
    misses = jobs._loaded.cache_info().misses
    predictor(run)
    assert jobs._loaded.cache_info().misses == misses == 1


def test_a_model_that_cannot_be_loaded_is_left_to_the_jobs(run, tmp_path):
    run = replace(run, model=str(tmp_path / "nothing"))
    load_ahead(run)
    with pytest.raises(Exception, match="nothing"):
        predictor(run)


def test_workers_that_outlive_a_run_load_a_model_anew_that_was_replaced(run, model, tmp_path):
    """As those of --scheduler do; the same folder, another model."""
    folder = shutil.copytree(model, tmp_path / "model")
    settings = RunSettings(model=str(folder), device="cpu", engine="serial")
    first = open_context(settings, tmp_path / "out")
    predictor(first)
    card = folders.read_card(folder)
    folders.write_card(folder, card.model_dump(exclude={"sha256"}) | {"name": "another"})
    second = open_context(settings, tmp_path / "out")
    assert predictor(second).card == second.card != first.card
    jobs._loaded.cache_clear()
    with pytest.raises(ModelError, match="is not the one that the run began with"):
        predictor(first)


def test_a_temporary_file_of_a_killed_writer_is_not_read_as_the_result_of_a_block(tmp_path):
    folder = SlideFolder(tmp_path)
    extent = Extent(64, 128)
    blocks = tuple(Block(0, col, Box(0, 64 * col, 64, 64), ((0, col),)) for col in (0, 1))
    plan = TilePlan(
        "s", 1.0, Frame(extent, 1.0, 1.0), TileGrid(64, 0, extent), "crop", 64, 1, blocks
    )
    facts = {
        (0, col): BlockStats(analysed_px=col, seam_px=0, seam_differing_px=0) for col in (0, 1)
    }
    for key, values in facts.items():
        write_json(folder.block_stats(key), values.to_json(), compact=True)
    (folder.blocks / ".0.1.4711.tmp.json").touch()
    assert collect_block_stats(folder, plan) == facts
