import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from standins import stored_labels
from zarr.storage import ZipStore

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.ozx import write_ozx


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    labels = np.zeros((900, 1100), np.uint8)
    labels[100:700, 50:1000] = 1
    labels[300:400, 200:500] = 21
    return stored_labels(tmp_path_factory.mktemp("ozx") / "s", labels, block_px=256)


@pytest.fixture(scope="module")
def archive(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("out") / "s.ozx"
    write_ozx(source, path)
    return path


def test_zarr_and_the_models_of_ome_zarr_read_it(source, archive):
    with ZipStore(archive, mode="r") as store:
        root = zarr.open_group(store, mode="r")
        assert isinstance(open_ome_zarr(root), Image)
        assert isinstance(open_ome_zarr(root["labels/classes"]), ImageLabel)
        for level in range(len(source.frames)):
            np.testing.assert_array_equal(
                root[f"labels/classes/{level}"][:], source.store.read_level(level)
            )


def test_metadata_come_first_breadth_first_and_nothing_is_compressed_again(source, archive):
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        comment = json.loads(opened.comment)
    names = [entry.filename for entry in entries]
    is_metadata = [name.rpartition("/")[2] == "zarr.json" for name in names]
    assert names[0] == "zarr.json"
    assert is_metadata == sorted(is_metadata, reverse=True)
    depths = [name.count("/") for name in names[: sum(is_metadata)]]
    assert depths == sorted(depths)
    assert comment["ome"]["version"] == "0.5"
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert [entry.header_offset for entry in entries] == sorted(e.header_offset for e in entries)
    stored = {p.relative_to(source.store.path).as_posix() for p in source.store.path.rglob("*")}
    assert set(names) <= stored
    assert len(names) == sum(p.is_file() for p in source.store.path.rglob("*"))


def test_each_entry_has_the_zip64_extension(archive):
    content = archive.read_bytes()
    length, extra = struct.unpack("<HH", content[26:30])
    assert extra
    assert struct.unpack("<H", content[30 + length : 32 + length]) == (1,)


def test_the_same_mask_makes_the_same_bytes_at_any_time(source, archive, tmp_path):
    (source.store.path / "zarr.json").touch()
    again = tmp_path / "again.ozx"
    write_ozx(source, again)
    assert again.read_bytes() == archive.read_bytes()


def test_files_of_killed_writers_are_left_out(source, archive, tmp_path):
    torn = source.store.path / "labels" / "classes" / "0" / "c" / "0" / "0.abc.partial"
    torn.write_bytes(b"torn")
    try:
        write_ozx(source, tmp_path / "s.ozx")
    finally:
        torn.unlink()
    assert (tmp_path / "s.ozx").read_bytes() == archive.read_bytes()


def test_a_link_in_a_mask_is_refused_since_it_may_lead_out_of_it(source, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = source.store.path / "link"
    link.symlink_to(secret)
    try:
        with pytest.raises(StoreError, match="no regular file"):
            write_ozx(source, tmp_path / "s.ozx")
    finally:
        link.unlink()
