"""Provenance of a mask."""

import numpy as np
import pytest

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.provenance import read_provenance
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo


def test_the_values_are_those_with_which_the_mask_was_created(tmp_path):
    frame, classes = (
        Frame(Extent(64, 64), 1.0, 1.0),
        (ClassInfo(code=1, name="a", color=(1, 2, 3), role="tumor"),),
    )
    about = {"slide": {"mpp": [1.0, 1.0], "bounds_px": [0, 0, 64, 64]}, "model": {"name": "x"}}
    thumbnail, small = np.zeros((8, 8, 3), np.uint8), Frame(Extent(8, 8), 8.0, 8.0)
    MaskStore.create(tmp_path / "m", MaskLayout(frame, 64, 64, classes), thumbnail, small, about)
    assert read_provenance(tmp_path / "m") == about


def test_a_mask_without_attributes_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        read_provenance(tmp_path / "none")
