"""Result of one slide as the formats of exports read it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from standins import stored_labels

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.source import ExportSource


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    labels = np.zeros((60, 80), np.uint8)
    labels[10:20, 10:40] = 1
    return stored_labels(
        tmp_path_factory.mktemp("s") / "a",
        labels,
        mpp=(0.5, 0.6),
        slide_mpp=(0.25, 0.2),
        bounds_yx=(7, 9),
    )


def test_a_source_knows_its_slide(source):
    assert (source.slide_id, source.slide_path) == ("a", Path("/slides/a.svs"))
    assert source.frames[0].extent.width == 80
    assert [info.code for info in source.classes] == [1, 2, 21]
    assert source.class_area_mm2["tumor"] == pytest.approx(300 * 0.3e-6)


def test_qupath_counts_from_the_bounds_and_the_file_does_not(source):
    assert source.qupath_scale == (2.0, pytest.approx(3.0))
    assert source.bounds_px == (7, 9, 120, 240)
    assert source.level0_affine == [[2.0, 0.0, 7.0], [0.0, pytest.approx(3.0), 9.0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mpp", [0.5]),
        ("mpp", [0, 1.0]),
        ("mpp", "12"),
        ("mpp", [True, 0.5]),
        ("mpp", [float("nan"), 0.5]),
        ("bounds_px", [0, 0, 1]),
        ("bounds_px", None),
        ("class_area_mm2", {"tumor": "1"}),
        ("class_area_mm2", []),
    ],
)
def test_a_damaged_summary_is_named(source, name, value):
    damaged = dataclasses.replace(source, summary={**source.summary, name: value})
    with pytest.raises(StoreError, match=rf"summary\.json is damaged: its value of {name} is not"):
        _ = damaged.qupath_scale, damaged.bounds_px, damaged.class_area_mm2


def test_a_missing_mask_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"mask\.ome\.zarr"):
        ExportSource.open(tmp_path / "a" / "mask.ome.zarr", {})
