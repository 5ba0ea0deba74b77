"""Results of a real run, for the tests of `noctile verify`."""

import shutil
from pathlib import Path

import pytest
from standins import small_slide, threshold_model

from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """Results of two slides with tissue, one of glass, and a file that is no slide."""
    folder = tmp_path_factory.mktemp("run")
    slides = folder / "slides"
    slides.mkdir()
    for seed, name in enumerate("ab"):
        small_slide(slides / f"{name}.tif", seed=seed, height=1300, width=1500)
    small_slide(slides / "glass.tif", seed=None, height=600, width=600)
    (slides / "broken.tif").write_bytes(b"II*\0 this is no slide")
    model = threshold_model(folder / "model")
    settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
    entries = find_slides([slides], None, None).slides
    run_slides(entries, settings, folder / "results", lambda progress, say: None)
    return folder / "results"


@pytest.fixture
def damaged(results, tmp_path) -> Path:
    """A copy of the results, to be damaged by the test."""
    return Path(shutil.copytree(results, tmp_path / "results"))
