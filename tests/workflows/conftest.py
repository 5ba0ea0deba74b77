"""A run with one small slide, whose steps can be done one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from standins import small_slide

from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.workflows.jobs import worker
from noctile.workflows.jobs.messages import RunContext, StepJob
from noctile.workflows.jobs.steps import Step
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings


@pytest.fixture
def run(model, tmp_path) -> RunContext:
    worker.cached_predictor.cache_clear()
    settings = RunSettings(model=str(model), device="cpu", engine="serial", block_px=480)
    yield open_context(settings, tmp_path / "out")
    worker.cached_predictor.cache_clear()


@pytest.fixture
def entry(tmp_path) -> SlideEntry:
    small_slide(tmp_path / "a.tif", seed=0, height=900, width=1100)
    return find_slides([tmp_path / "a.tif"], None, None).slides[0]


@pytest.fixture
def job(run, entry) -> Callable[..., StepJob]:
    """Function that makes the job of a step."""
    return lambda kind, block=None: StepJob(Step(kind, "a", block), entry, run)


@pytest.fixture
def staged(run) -> Path:
    return run.results.staged("a")
