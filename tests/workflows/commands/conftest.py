"""Results of a real run, for the tests of `noctile verify`."""

import shutil
from pathlib import Path

import pytest
from standins import small_slide, threshold_model

from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold
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


def _four_classes(folder: Path, *, merged: bool) -> Path:
    """Write a model that labels pixels by darkness: fat, stroma, dcis, tumor; or two classes."""
    names = ("other", "tumor") if merged else ("fat", "stroma", "dcis", "tumor")
    codes, limits = ((2, 1), (0.25,)) if merged else ((5, 2, 20, 1), (0.14, 0.25, 0.37))
    classes = [
        {"code": code, "name": name, "color": (code, 0, 200)}
        | {"role": "tumor" if name in ("tumor", "dcis") else "tissue"}
        for code, name in zip(codes, names, strict=True)
    ]
    about = {"name": "dark", "description": "dark is tumor", "licence": "CC0-1.0", "mpp": 0.5}
    fields = {**about, "classes": classes, "tile_px": 128, "overlap_px": 32}
    save_threshold(folder, ThresholdConfig(thresholds_od=limits, softness_od=0.005), fields)
    return folder


@pytest.fixture(scope="session")
def four_classes(tmp_path_factory) -> Path:
    """Results of four classes: slides a and b of several blocks, one of glass, and a failed one."""
    folder = tmp_path_factory.mktemp("four")
    slides = folder / "slides"
    slides.mkdir()
    for seed, name in enumerate("ab"):
        small_slide(slides / f"{name}.tif", seed=seed, height=1300, width=1100)
    small_slide(slides / "glass.tif", seed=None, height=600, width=600)
    (slides / "broken.tif").write_bytes(b"II*\0 this is no slide")
    rows = [f"slides/{name}.tif,P{name}" for name in ("a", "b", "glass", "broken")]
    (folder / "m.csv").write_text("\n".join(["path,patient_id", *rows]) + "\n")
    for out in ("results", "merged"):
        model = _four_classes(folder / f"model-{out}", merged=out == "merged")
        settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
        entries = find_slides([], folder / "m.csv", None).slides
        run_slides(entries, settings, folder / out, lambda progress, say: None)
    return folder / "results"
