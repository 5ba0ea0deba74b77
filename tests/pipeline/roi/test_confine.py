"""Tissue confined to regions of interest."""

import numpy as np
import pytest
from roi_files import box, drawn, feature, write_roi
from standins import tissue_of

from noctile.pipeline.errors import RoiError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.roi.confine import confine, given_roi, given_tissue
from noctile.pipeline.roi.confinement import Confinement

NATIVE = Frame(Extent(960, 1280), 0.5, 0.5)


@pytest.fixture
def roi(tmp_path):
    path = write_roi(tmp_path / "a.geojson", feature(box(33, 70, 500, 400)))
    return given_roi(Confinement(path), NATIVE)


def test_nothing_given_is_nothing_read():
    assert given_roi(Confinement(), NATIVE) is None
    assert given_tissue(Confinement(), None, NATIVE, NATIVE) is None


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RoiError, match=r"gone\.geojson cannot be read"):
        given_roi(Confinement(tmp_path / "gone.geojson"), NATIVE)


def test_tissue_is_confined_by_the_centres_of_pixels(roi):
    mask = np.random.default_rng(0).random((60, 80)) < 0.7
    found = confine(tissue_of(mask), roi)
    expected = tissue_of(mask).on(NATIVE.box, NATIVE)
    expected &= drawn([feature(box(33, 70, 500, 400))], NATIVE, (0.5, 0.5))
    assert np.array_equal(found.on(NATIVE.box, NATIVE), expected)
    assert found.flags == ()
    assert found.area_mm2 == pytest.approx(expected.sum() * 0.25e-6, rel=0.05)


def test_regions_without_tissue_are_flagged(roi):
    mask = np.zeros((60, 80), bool)
    mask[50:, 50:] = True
    assert confine(tissue_of(mask), roi).flags == ("no_tissue",)
