"""A run on a GPU against the same run on the CPU: float16 there, float32 here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore"),
]

SLIDES = ("tumor-nests-20x", "scan-40x")


def labels(samples: list[Path], out: Path, **settings) -> dict[str, np.ndarray]:
    """Label maps of the shipped model, by slide."""
    run = run_slides(
        find_slides(samples, None, None).slides,
        RunSettings(backend="torch", **settings),
        out,
        lambda *_: None,
    )
    assert run.exit_code == 0
    return {
        name: MaskStore.open(out / "slides" / name / "mask.ome.zarr").read_level(0)
        for name in SLIDES
    }


@pytest.fixture(scope="module")
def samples(repo) -> list[Path]:
    return [repo / "sample_slides" / f"{name}.svs" for name in SLIDES]


@pytest.fixture(scope="module", params=["crop", "blend"])
def window(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def on_the_cpu(samples, window, tmp_path_factory) -> dict[str, np.ndarray]:
    return labels(samples, tmp_path_factory.mktemp("cpu"), device="cpu", window=window)


@pytest.mark.parametrize(
    "more", [{"engine": "serial"}, {"engine": "dask"}, {"engine": "serial", "compile": True}]
)
def test_labels_are_those_of_the_cpu(samples, window, on_the_cpu, tmp_path, more):
    found = labels(samples, tmp_path, device="cuda", window=window, **more)
    for name, expected in on_the_cpu.items():
        tissue = expected > 0
        assert np.array_equal(found[name] > 0, tissue)
        assert tissue.any()
        assert (found[name] == expected)[tissue].mean() >= 0.999
