from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from noctile.pipeline.masks.shard import ZSTD_LEVEL, read_seal, read_shard, write_shard

GRIDS = [
    ((8, 8), (2, 2)),
    ((12, 6), (2, 3)),
    ((16, 16), (16, 16)),
    ((3, 16, 12), (3, 4, 4)),
    ((2, 8, 8), (1, 8, 8)),
]
"""Shapes of a shard and its chunks; some sides are no powers of two."""


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape, np.uint8)


def by_zarr(
    folder: Path, values: np.ndarray, shard: tuple[int, ...], chunk: tuple[int, ...]
) -> Path:
    """Let zarr write an array of one shard, and return the shard's file."""
    array = zarr.create_array(
        LocalStore(folder),
        shape=values.shape,
        dtype="uint8",
        shards=shard,
        chunks=chunk,
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return folder.joinpath("c", *["0"] * values.ndim)


@pytest.mark.parametrize(("shard", "chunk"), GRIDS)
@pytest.mark.parametrize("cut", [0, 1, 5])
class TestAsZarr:
    def test_noctile_writes_the_same_bytes(self, tmp_path, shard, chunk, cut):
        values = noise((*shard[:-2], *(max(1, n - cut) for n in shard[-2:])))
        ours = tmp_path / "ours" / "c" / "0"
        write_shard(ours, values, shard, chunk)
        assert ours.read_bytes() == by_zarr(tmp_path / "zarr", values, shard, chunk).read_bytes()

    def test_a_shard_that_zarr_wrote_is_read(self, tmp_path, shard, chunk, cut):
        values = noise((*shard[:-2], *(max(1, n - cut) for n in shard[-2:])))
        path = by_zarr(tmp_path / "zarr", values, shard, chunk)
        assert np.array_equal(read_shard(path, values.shape, shard, chunk), values)


class TestReading:
    def test_a_missing_chunk_is_read_as_0(self, tmp_path):
        """Other programs leave out chunks of zeros."""
        array = zarr.create_array(
            LocalStore(tmp_path), shape=(8, 8), dtype="uint8", shards=(8, 8), chunks=(4, 4)
        )
        array[:4, 4:] = noise((4, 4)) + 1
        read = read_shard(tmp_path / "c/0/0", (8, 8), (8, 8), (4, 4))
        assert np.array_equal(read, array[...])
        assert not read[4:].any()

    def test_a_missing_shard_is_read_as_0(self, tmp_path):
        assert not read_shard(tmp_path / "c/0/0", (7, 5), (8, 8), (4, 4)).any()

    @pytest.mark.parametrize("damage", ["empty", "cut", "chunk", "index", "checksum"])
    def test_damage_is_an_error(self, tmp_path, damage):
        path = tmp_path / "0"
        write_shard(path, noise((64, 64)), (64, 64), (32, 32))
        content = bytearray(path.read_bytes())
        match damage:
            case "empty":
                content.clear()
            case "cut":
                del content[-10:]
            case "chunk":
                content[:40] = bytes(40)
            case "index":
                content[-30] ^= 1
            case "checksum":
                content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises((ValueError, RuntimeError)):
            read_shard(path, (64, 64), (64, 64), (32, 32))


class TestWriting:
    def test_values_that_do_not_fit_the_shard_are_refused(self, tmp_path):
        for values in (noise((9, 8)), noise((1, 8, 8))):
            with pytest.raises(ValueError, match="do not fit"):
                write_shard(tmp_path / "0", values, (8, 8), (4, 4))
        assert not list(tmp_path.iterdir())

    def test_a_shard_that_cannot_be_renamed_leaves_no_temporary_file(self, tmp_path):
        (tmp_path / "0").mkdir()
        with pytest.raises(OSError, match="0"):
            write_shard(tmp_path / "0", noise((8, 8)), (8, 8), (4, 4))
        assert [p.name for p in tmp_path.iterdir()] == ["0"]


class TestSeal:
    """Size and checksum of the index tell a damaged shard, or another one, without decoding."""

    SHARD, CHUNK = (8, 8), (4, 4)

    @pytest.fixture
    def path(self, tmp_path) -> Path:
        write_shard(tmp_path / "0", noise(self.SHARD), self.SHARD, self.CHUNK)
        return tmp_path / "0"

    def test_the_seal_names_the_size_and_differs_between_shards(self, path, tmp_path):
        size, index = read_seal(path, self.SHARD, self.CHUNK)
        assert size == path.stat().st_size
        values = np.zeros(self.SHARD, np.uint8)
        write_shard(tmp_path / "1", values, self.SHARD, self.CHUNK)
        assert read_seal(tmp_path / "1", self.SHARD, self.CHUNK)[1] != index

    def test_a_shard_that_zarr_wrote_has_one(self, tmp_path):
        path = by_zarr(tmp_path / "zarr", noise(self.SHARD), self.SHARD, self.CHUNK)
        assert read_seal(path, self.SHARD, self.CHUNK)[0] == path.stat().st_size

    @pytest.mark.parametrize("kept", [0, 3, -1])
    def test_an_empty_or_torn_shard_has_none(self, path, kept):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match="the checksum of its index is wrong"):
            read_seal(path, self.SHARD, self.CHUNK)

    def test_zeros_of_the_right_size_have_none(self, path):
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(ValueError, match="the checksum of its index is wrong"):
            read_seal(path, self.SHARD, self.CHUNK)

    def test_a_shard_without_its_first_bytes_has_none(self, path):
        path.write_bytes(path.read_bytes()[1:])
        with pytest.raises(ValueError, match="its size is not what its index says"):
            read_seal(path, self.SHARD, self.CHUNK)

    def test_an_index_for_another_shape_is_none(self, path):
        with pytest.raises(ValueError, match="is damaged"):
            read_seal(path, (8, 16), self.CHUNK)

    def test_a_missing_shard_is_an_error_of_the_file_system(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_seal(tmp_path / "9", self.SHARD, self.CHUNK)


def test_a_shard_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr("os.fsync", lambda _: names.append([p.suffix for p in tmp_path.iterdir()]))
    write_shard(tmp_path / "0", noise((8, 8)), (8, 8), (4, 4))
    assert names == [[".partial"]]
