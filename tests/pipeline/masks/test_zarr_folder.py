from pathlib import Path

import numpy as np
import pytest

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.layout import ArrayShape
from noctile.pipeline.masks.zarr_folder import ZarrFolder, read_attributes, store_errors

SHAPE = ArrayShape((30, 20), (16, 16), (8, 8))
PIXELS = np.random.default_rng(0).integers(0, 256, (14, 4), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> ZarrFolder:
    """A folder with one array, of which the last shard was written."""
    made = ZarrFolder(tmp_path / "a.ome.zarr", {"0": SHAPE})
    made.create_group("", {"name": "first"})
    made.create_array("0")
    made.write_shard("0", (1, 1), PIXELS)
    return made


def test_a_shard_is_read_back_whole_and_as_part_of_a_region(folder):
    again = ZarrFolder(folder.path, {"0": SHAPE})
    assert (again.read_shard("0", (1, 1), Box(16, 16, 14, 4)) == PIXELS).all()
    assert (again.read("0", (slice(10, 30), slice(10, 20)))[6:, 6:] == PIXELS).all()
    assert again.read("0").shape == (30, 20)


def test_pixels_that_were_not_written_are_0(folder):
    assert not folder.read_shard("0", (0, 0), Box(0, 0, 16, 16)).any()
    assert np.count_nonzero(folder.read("0")) == np.count_nonzero(PIXELS)


def test_attributes_are_read_and_replaced(folder):
    assert read_attributes(folder.path, "") == {"name": "first"}
    folder.set_attributes("", {"other": 2})
    assert read_attributes(folder.path, "") == {"other": 2}


@pytest.mark.parametrize(
    "shape",
    [
        ArrayShape((31, 20), (16, 16), (8, 8)),
        ArrayShape((30, 20), (32, 32), (8, 8)),
        ArrayShape((30, 20), (16, 16), (4, 4)),
        ArrayShape((1, 30, 20), (1, 16, 16), (1, 8, 8)),
    ],
)
def test_an_array_of_another_shape_is_refused(folder, shape):
    with pytest.raises(ValueError, match="as Noctile makes"):
        ZarrFolder(folder.path, {"0": shape}).open_array("0", "r")


def test_the_error_names_the_array_and_says_what_to_do(folder):
    (folder.path / "0" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"a\.ome\.zarr/0 cannot be read.*delete .* done again"):
        ZarrFolder(folder.path, {"0": SHAPE}).read("0")


def test_a_mistake_in_the_code_is_no_store_error(tmp_path):
    with pytest.raises(ZeroDivisionError), store_errors(tmp_path, "read", "delete it"):
        1 / 0  # noqa: B018
