"""Masks that do damage."""

import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from malformed.calls import FRAME, read_part, read_store
from malformed.refusals import DEEP, DIGITS, refusal
from numcodecs import Zstd

from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo

CLASSES = (ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    layout = MaskLayout(FRAME, 512, 128, CLASSES)
    small = FRAME.coarser(16)
    overview = np.zeros((small.extent.height, small.extent.width, 3), np.uint8)
    about = {"slide": {"mpp": [0.5, 0.5], "bounds_px": [0, 0, 600, 700]}}
    MaskStore.create(tmp_path / "mask.ome.zarr", layout, overview, small, about)
    return tmp_path / "mask.ome.zarr"


def foreign(path: Path, name: str, **about: Any) -> Path:
    """Replace an array of a mask by one with other properties."""
    usual = {
        "shape": (600, 700),
        "chunks": (128, 128),
        "shards": (512, 512),
        "dtype": "uint8",
        "fill_value": 0,
    }
    zarr.create_array(path / name, overwrite=True, **usual | about)
    return path


class TestStores:
    @pytest.mark.parametrize(
        "about",
        [
            {"shape": (500, 700)},
            {"shape": (600, 700, 1), "chunks": (128, 128, 1), "shards": (512, 512, 1)},
            {"shape": (2**40, 2**40)},
            {"dtype": "float64"},
            {"dtype": "uint16"},
            {"chunks": (64, 64)},
            {"chunks": (2**20, 2**20), "shards": None, "fill_value": 7},
            {"shards": (2**20, 2**20)},
            {"shards": None},
        ],
        ids=str,
    )
    def test_an_array_with_other_properties_is_a_damaged_store(
        self, mask: Path, about: dict[str, Any]
    ) -> None:
        assert "are not" in refusal(read_store, foreign(mask, "labels/classes/0", **about))

    def test_maps_and_thumbnails_of_another_shape_are_a_damaged_store(self, mask: Path) -> None:
        foreign(
            mask.with_name("heat.ome.zarr"),
            "0",
            shape=(2, 600, 700),
            chunks=(1, 64, 64),
            shards=(2, 64, 64),
        )
        assert "heat.ome.zarr/0 cannot be read" in refusal(read_store, mask)

    @pytest.mark.parametrize(
        "layout",
        [
            None,
            [],
            {},
            {"frame": 5},
            {"frame": {"extent_px": [-1, 2], "mpp": [1, 1]}},
            {"frame": {"extent_px": ["a", "b"], "mpp": [1, 1]}},
            {"frame": {"extent_px": [2**62, 2**62], "mpp": [1, 1]}},
            {"frame": {"extent_px": [2**23, 700], "mpp": [1, 1]}},
            {"overview_frame": {"extent_px": [2**20, 2**20], "mpp": [1, 1]}},
            {"block_px": 2**16, "chunk_px": 2**16},
            {"block_px": 2**15, "chunk_px": 64},
            {"block_px": 0},
            {"block_px": "x"},
            {"chunk_px": None},
            {"classes": [{"code": 0}]},
            {"classes": "x"},
        ],
        ids=str,
    )
    def test_other_attributes_are_a_damaged_store(self, mask: Path, layout: Any) -> None:
        meta = mask / "labels" / "classes" / "zarr.json"
        values = json.loads(meta.read_text())
        about = values["attributes"]["noctile"]
        about["layout"] = (
            {**about["layout"], **layout} if isinstance(layout, dict) and layout else layout
        )
        meta.write_text(json.dumps(values))
        assert "cannot be read" in refusal(read_store, mask)

    @pytest.mark.parametrize(
        "content",
        ["", "5", "[]", DEEP, '{"zarr_format": 3}', "\0", '{"zarr_format": ' + DIGITS + "}"],
    )
    def test_bad_metadata_are_a_damaged_store(self, mask: Path, content: str) -> None:
        (mask / "labels" / "classes" / "zarr.json").write_text(content)
        assert "cannot be read" in refusal(read_store, mask)
        (mask / "labels" / "classes" / "0" / "zarr.json").write_text(content)

    @pytest.mark.parametrize("read", [read_store, read_part])
    def test_a_chunk_that_fills_the_memory_is_not_decoded(self, mask: Path, read: Any) -> None:
        chunk = Zstd().encode(np.zeros(2**28, np.uint8))
        index = np.full((16, 2), 2**64 - 1, "<u8")
        index[0] = 0, len(chunk)
        footer = index.tobytes()
        shard = mask / "labels" / "classes" / "0" / "c" / "0" / "0"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(chunk + footer + struct.pack("<I", google_crc32c.value(footer)))
        assert "buffer too small" in refusal(read, mask)

    @pytest.mark.parametrize(
        "about",
        [
            {"compressors": zarr.codecs.GzipCodec()},
            {"compressors": None},
            {"filters": zarr.codecs.TransposeCodec(order=(1, 0))},
        ],
        ids=["gzip", "none", "transposed"],
    )
    def test_chunks_of_another_encoding_are_a_damaged_store(
        self, mask: Path, about: dict[str, Any]
    ) -> None:
        assert "not as Noctile's" in refusal(read_part, foreign(mask, "labels/classes/0", **about))
