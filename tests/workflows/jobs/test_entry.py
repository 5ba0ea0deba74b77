"""Functions that an engine runs in a worker process."""

import importlib

import pytest

from noctile.workflows.jobs.entry import JOB_MODULES, do
from noctile.workflows.jobs.messages import Prepared
from noctile.workflows.results.checksums import slide_fault


def test_a_step_is_done_by_its_kind(job, run):
    prepared = do(job("prepare"))
    assert isinstance(prepared, Prepared)
    tiles = [do(job("segment", block)) for block in prepared.blocks]
    assert tuple(tiles) == prepared.tiles_of
    assert do(job("finish")) is None
    assert slide_fault(run.results.slide("a")) is None


@pytest.mark.parametrize("name", JOB_MODULES)
def test_modules_of_the_jobs_exist(name):
    assert importlib.import_module(name).__doc__
