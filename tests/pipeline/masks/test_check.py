from pathlib import Path

import numpy as np
import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.check import check_levels
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.masks.zarr_folder import ZarrFolder
from noctile.pipeline.models.card import ClassInfo

CLASSES = (ClassInfo(code=1, name="tumor", color=(220, 30, 30), role="tumor"),)
LAYOUT = MaskLayout(Frame(Extent(2100, 1100), 1.0, 1.0), 256, 64, CLASSES)


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    """A complete store with labels in two blocks."""
    frame = LAYOUT.frame.coarser(16)
    shape = (frame.extent.height, frame.extent.width, 3)
    thumbnail = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    slide = {"slide": {"mpp": [1.0, 1.0], "bounds_px": [0, 0, 2100, 1100]}}
    made = MaskStore.create(tmp_path / "mask.ome.zarr", LAYOUT, thumbnail, frame, slide)
    for key in ((0, 0), (8, 4)):
        box = LAYOUT.shard_box(*key)
        maps = np.zeros((-(-box.height // 8), -(-box.width // 8)), np.uint8)
        made.write(box, np.ones((box.height, box.width), np.uint8), maps, maps)
    build_pyramid(made)
    return made


def test_a_complete_pyramid_has_no_differences(store):
    assert list(check_levels(store)) == []


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_coarser_level_with_other_labels_is_named(store, level):
    box = LAYOUT.shard_box(0, 0, level)
    labels = store.read(box, level)
    labels[0, 0] = 0
    store.write_labels(box, labels, level)
    assert next(check_levels(store)) == (
        f"has a block 0, 0 on level {level} that does not follow from level {level - 1}"
    )


def test_a_missing_coarser_shard_is_named(store):
    (store.path / "labels/classes/1/c/8/4").unlink()
    assert "has a block 8, 4 on level 1 that does not follow from level 0" in list(
        check_levels(store)
    )


def test_a_shard_beyond_the_label_map_is_named(store):
    shard = store.path / "labels/classes/1/c/99/0"
    shard.parent.mkdir()
    shard.write_bytes((store.path / "labels/classes/1/c/0/0").read_bytes())
    assert next(check_levels(store)) == ("has a block 99, 0 on level 1, outside its label map")


def test_a_thumbnail_with_other_pixels_is_named(store):
    thumbnails = ZarrFolder(store.path, store._mask.arrays)
    pixels = thumbnails.read("2")
    pixels[0, 0, 0] ^= 1
    thumbnails.write_shard("2", (0, 0, 0), pixels)
    assert "has a thumbnail whose level 2 does not follow from level 1" in list(check_levels(store))
