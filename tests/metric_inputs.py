"""Inputs for tests of metrics: regions, classes, labelled pixels and counts."""

import numpy as np

from noctile.pipeline.metrics.calibration import N_BINS
from noctile.pipeline.metrics.measurement import Measurement
from noctile.pipeline.metrics.region_counts import RegionCounts
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme


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


def measurement_of(
    scheme: ClassScheme, patients: str = "abc", region: str = "region", seed: int = 0
) -> Measurement:
    n = len(scheme.classes)
    rng = np.random.default_rng(seed)
    scores = []
    for k, patient in enumerate(patients):
        confusion = rng.integers(0, 100, (n, n)) + 900 * np.eye(n, dtype=np.int64)
        bins = np.zeros((N_BINS, 3))
        bins[12] = confusion.sum(), 0.82 * confusion.sum(), np.trace(confusion)
        place = Region(f"{region}{k}", patient, "OL", "BCSS", image=None, truth=None)
        scores.append(
            RegionCounts(place, confusion, bins, np.stack([confusion // 2] * 2), (200, 120, 171))
        )
    return Measurement(scheme.classes, tuple(scores))
