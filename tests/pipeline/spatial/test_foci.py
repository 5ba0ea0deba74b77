"""Tumor foci; number and largest area are tested in test_measure.py, too."""

import numpy as np
import pytest
from skimage.measure import label
from standins import stored_labels

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.spatial.foci import (
    find_foci,
    focus_areas_mm2,
    only_foci,
)


def squares() -> np.ndarray:
    """Stroma with a tumor of 128 x 128 px, another of 100 x 100 px, and one of 40 x 40 px."""
    labels = np.full((400, 600), 2, np.uint8)
    labels[:, 500:] = 0
    labels[20:148, 20:148] = labels[200:300, 200:300] = labels[300:340, 400:440] = 1
    return labels


def stored(folder, labels, mpp=(1.0, 1.01)):
    return stored_labels(folder / "s", labels, mpp=mpp).store


def test_foci_are_found_where_they_are_the_largest_first(tmp_path):
    """At 2 um, the coarsest level: squares of 128 and 100 px begin at (20, 20) and (200, 200)."""
    frame, foci = find_foci(stored(tmp_path, squares()), [1], most=10)
    assert frame.mpp_y == 2.0
    assert [focus.box for focus in foci] == [Box(10, 10, 64, 64), Box(100, 100, 50, 50)]
    assert [focus.area_mm2 for focus in foci] == pytest.approx([128**2 * 1.01e-6, 1.01e-2])


def test_foci_that_are_found_are_those_that_are_measured(tmp_path):
    """The three squares have 0.0165, 0.0101 and 0.0016 mm2."""
    store = stored(tmp_path, squares())
    areas_mm2 = focus_areas_mm2(store, [1])
    assert areas_mm2.tolist() == pytest.approx([128**2 * 1.01e-6, 1.01e-2])
    assert [focus.area_mm2 for focus in find_foci(store, [1], 10)[1]] == areas_mm2.tolist()


def test_no_more_foci_are_found_than_wanted(tmp_path):
    store = stored(tmp_path, squares())
    assert len(find_foci(store, [1], most=1)[1]) == 1
    assert find_foci(store, [], most=1)[1] == []


def test_specks_are_removed():
    """At 4 um, a focus has 625 px: the areas of regions are those of another program."""
    rng = np.random.default_rng(0)
    tumor = np.kron(rng.random((70, 40)) < 0.3, np.ones((20, 20), bool))
    frame = Frame(Extent(*tumor.shape), 4.0, 4.0)
    regions = label(tumor, connectivity=2)
    kept = np.bincount(regions.ravel()) >= 625
    kept[0] = False
    assert 0 < only_foci(tumor, frame).sum() < tumor.sum()
    assert (only_foci(tumor, frame) == kept[regions]).all()
