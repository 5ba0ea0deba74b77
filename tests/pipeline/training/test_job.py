"""An epoch has as many steps as cut each training pixel once on average."""

from pathlib import Path

import pytest

from noctile.pipeline.training.crops import RegionCache
from noctile.pipeline.training.job import FitJob
from noctile.pipeline.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 10),
        ({"accumulate": 3}, 4),
        ({"batch_size": 1000}, 1),
        ({"steps_per_epoch": 7}, 7),
    ],
)
def test_steps_of_an_epoch(changes: dict[str, int], steps: int) -> None:
    settings = TrainSettings(**({"crop_px": 64, "batch_size": 4} | changes))
    cache = RegionCache(Path(), ("a", "b"), (0, 64 * 640), ((64, 640), (640, 192)), ((), ()))
    empty = RegionCache(Path(), (), (), (), ())
    job = FitJob(
        settings=settings,
        names=("tumor", "other"),
        counted=(True, True),
        weights=(1.0, 1.0),
        train=cache,
        shares=(1.0, 1.0),
        val=empty,
        folder=Path(),
        key="k",
        device="cpu",
        processes=1,
        workers=0,
    )
    assert job.steps == steps
    assert not job.on_gpu
