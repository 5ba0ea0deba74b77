"""Inputs for tests of metrics: regions, classes, labelled pixels and counts."""

import numpy as np

from noctile.pipeline.metrics.calibration import N_BINS
from noctile.pipeline.metrics.region_counts import RegionCounts
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED


def region(name: str = "r", patient: str = "p", institute: str = "", source: str = "s") -> Region:
    return Region(name, patient, institute, source, image=None, truth=None)


def counts(
    confusion, name: str = "r", patient: str = "p", blocks=None, **about: str
) -> RegionCounts:
    confusion = np.asarray(confusion, np.int64)
    blocks = confusion[None] if blocks is None else np.asarray(blocks, np.int64)
    return RegionCounts(
        region(name, patient, **about), confusion, np.zeros((N_BINS, 3)), blocks, (200, 150, 180)
    )


def classes(*roles: str) -> tuple[ClassInfo, ...]:
    return tuple(
        ClassInfo(code=k + 1, name=f"c{k}", color=(k, 0, 0), role=role)
        for k, role in enumerate(roles)
    )


def pixels(height: int, width: int, n: int, seed: int = 0) -> LabelledPixels:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n + 1, (height, width)).astype(np.uint8)
    targets[targets == n] = IGNORED
    return LabelledPixels(rng.integers(0, 256, (height, width, 3), np.uint8), targets, 1.0)
